//! The charging station management system.

use std::ffi::OsString;
use std::pin::pin;
use std::process::ExitCode;

use csms::{
    Config, HELP, Invocation, SimulateInvocation, SimulateOptions, StorePlace, USER_HELP,
    UserCommandLine,
};
use tracing_subscriber::filter::LevelFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let level = std::env::var("CSMS_LOG").ok().and_then(|level| level.parse().ok());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let mut arguments = std::env::args_os().skip(1).peekable();
    let first = arguments.next_if(|word| word == "user" || word == "simulate").unwrap_or_default();
    let done = match first.to_str() {
        Some("user") => change_users(arguments).await,
        Some("simulate") => simulate(arguments).await,
        _ => serve(arguments).await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("csms: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out `csms user`.
async fn change_users(
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match UserCommandLine::read(arguments, |name| std::env::var_os(name))? {
        Some(line) => println!("{}", line.run().await?),
        None => println!("{USER_HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries out `csms simulate`.
async fn simulate(
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let options = match SimulateOptions::read(arguments, |name| std::env::var_os(name))? {
        SimulateInvocation::Help => {
            println!("{}", csms::simulate_help());
            return Ok(ExitCode::SUCCESS);
        }
        SimulateInvocation::Run(options) => options,
    };
    let report = csms::simulate(&options, stop_signal()?).await?;
    if options.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn serve(
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let variable = |name: &str| std::env::var_os(name);
    let config = match Config::read(arguments, variable)? {
        Invocation::Help => {
            println!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Invocation::Serve(config) => *config,
    };
    let mut stop = pin!(stop_signal()?);
    let (store, open) = (config.store.clone(), config.open);
    let Some(running) = csms::start(config, &mut stop).await? else {
        tracing::info!("stopped before the start");
        return Ok(ExitCode::SUCCESS);
    };
    println!("{}", welcome(running.address, &store, open));
    stop.await;
    tracing::info!("stopping");
    running.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// A charge point to try, for Python.
const STATION: &str = include_str!("station.py");

/// Returns the text that is printed at the start: addresses and first steps.
fn welcome(address: std::net::SocketAddr, store: &StorePlace, open: bool) -> String {
    let token = if open { "" } else { " -H 'Authorization: Bearer TOKEN'" };
    let station = STATION.replace("ADDRESS", &address.to_string());
    format!(
        "csms is listening; events are kept in {store}

  dashboard  http://{address}/   (energy by day: http://{address}/energy)
  stations   ws://{address}/ocpp/IDENTITY   (OCPP 1.6J, subprotocol ocpp1.6)
  API        http://{address}/api/stations

A station to try, in Python (pip install ocpp websockets); save it as station.py, and run it:

{station}
Then, in another terminal, start charging from afar and look:

curl{token} -X POST 'http://{address}/api/stations/CP-1/remote-start?wait=30s' -d '{{\"connectorId\": 1, \"idTag\": \"TAG-1\"}}'
curl{token} 'http://{address}/api/transactions?open=true'
curl{token} 'http://{address}/api/stations/CP-1/history'"
    )
}

/// Waits for ctrl-c or SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        let interrupt = tokio::signal::ctrl_c();
        #[cfg(unix)]
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = interrupt.await;
    })
}
