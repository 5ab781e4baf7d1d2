//! The charging station management system.

use std::pin::pin;
use std::process::ExitCode;

use csms::{Config, HELP, Invocation, StorePlace, USER_HELP, UserCommandLine};
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
    let done = match arguments.next_if(|word| word == "user") {
        Some(_) => change_users(arguments).await,
        None => serve().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("csms: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out `csms user`.
async fn change_users(
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> Result<(), Box<dyn std::error::Error>> {
    match UserCommandLine::read(arguments, |name| std::env::var_os(name))? {
        Some(line) => println!("{}", line.run().await?),
        None => println!("{USER_HELP}"),
    }
    Ok(())
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str| std::env::var_os(name);
    let config = match Config::read(std::env::args_os().skip(1), variable)? {
        Invocation::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Invocation::Serve(config) => *config,
    };
    let mut stop = pin!(stop_signal()?);
    let (store, open) = (config.store.clone(), config.open);
    let Some(running) = csms::start(config, &mut stop).await? else {
        tracing::info!("stopped before the start");
        return Ok(());
    };
    println!("{}", welcome(running.address, &store, open));
    stop.await;
    tracing::info!("stopping");
    Ok(running.stop().await?)
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
