//! From a view to HTML.

use std::fmt::Display;

use super::markup::Html;
use super::view::{
    Admission, Connection, ConnectorView, Counts, EffectView, OpenState, StationView, Tone, TransactionView, View,
};
use leftfold::prelude::Timestamp;

/// The whole page.
#[must_use]
pub fn page(view: &View) -> String {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<title>Charging stations</title><link rel=\"stylesheet\" href=\"/dashboard.css\">")
        .raw("<link rel=\"icon\" href=\"data:,\"><noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>")
        .raw("<script src=\"/dashboard.js\" defer></script></head>\n<body><header><h1>Charging stations</h1>")
        .raw("<span id=\"link\" role=\"status\" data-state=\"waiting\">connecting…</span></header>\n<main id=\"live\">");
    write_live(&mut html, view);
    html.raw("</main>\n<footer>").raw(match view.admission {
        Admission::Open => "Open mode: any station and any id tag is accepted, from this machine only. ",
        Admission::Registered => "Registered stations and known id tags only. ",
    });
    html.raw("JSON at <a href=\"/api/stations\">/api/stations</a>, <a href=\"/api/transactions\">/api/transactions</a> and ")
        .raw("<a href=\"/api/effects\">/api/effects</a>.</footer></body></html>\n");
    html.finish()
}

/// The part that changes.
#[must_use]
pub fn live(view: &View) -> String {
    let mut html = Html::default();
    write_live(&mut html, view);
    html.finish()
}

fn write_live(html: &mut Html, view: &View) {
    if view.stations.is_empty() {
        return write_first_steps(html, view);
    }
    write_counts(html, view);
    let (doubts, others): (Vec<_>, Vec<_>) =
        view.effects.iter().partition(|effect| matches!(effect.state, OpenState::InDoubt(_)));
    if !doubts.is_empty() {
        html.raw("<section aria-labelledby=\"doubts\"><h2 id=\"doubts\">In doubt</h2><div class=\"grid\">");
        doubts.iter().for_each(|effect| write_doubt(html, effect, view.as_of));
        html.raw("</div></section>\n");
    }
    html.raw("<section aria-labelledby=\"stations\"><h2 id=\"stations\">Stations</h2>");
    write_cut(html, view.stations.len(), view.counts.stations);
    html.raw("<div class=\"grid\">");
    view.stations.iter().for_each(|station| write_station(html, station, view.as_of));
    html.raw("</div></section>\n");
    write_transactions(html, view);
    write_in_flight(html, &others, view.as_of);
}

fn write_first_steps(html: &mut Html, view: &View) {
    html.raw("<section aria-labelledby=\"first\"><h2 id=\"first\">No station has connected yet</h2>");
    html.raw(
        "<p>Point a charge point that speaks OCPP 1.6J at this address; what stands behind the last slash is its identity:</p>",
    );
    html.raw("<pre>").text(&view.connect_url).raw("CP-1</pre>");
    if view.admission == Admission::Registered {
        html.raw("<p>It must be registered first:</p><pre>curl -X PUT ").text(&view.api_url);
        html.raw("/stations/CP-1 -H 'Authorization: Bearer …' -H 'Content-Type: application/json' -d '{}'</pre>");
    }
    html.raw("<p>Once it is here, start charging from afar:</p><pre>curl -X POST '").text(&view.api_url);
    html.raw("/stations/CP-1/remote-start?wait=30s' \\\n  -H 'Content-Type: application/json' \\\n  ");
    html.raw("-d '{\"connectorId\": 1, \"idTag\": \"TAG-1\"}'</pre></section>\n");
}

fn write_counts(html: &mut Html, view: &View) {
    let Counts { stations, online, running, faulted } = view.counts;
    let doubts = view.effects.iter().filter(|effect| matches!(effect.state, OpenState::InDoubt(_))).count();
    html.raw("<dl class=\"counts\">");
    let mut count = |number: String, what: &'static str, class: &'static str| {
        html.raw("<div").attribute("class", class).raw("><dt>").raw(what).raw("</dt><dd>").text(number).raw("</dd></div>");
    };
    let alarm = |count: usize| if count > 0 { "alarm" } else { "calm" };
    count(format!("{online} / {stations}"), "stations online", "calm");
    count(running.to_string(), "charging", "calm");
    count(faulted.to_string(), "faulted", alarm(faulted));
    count(doubts.to_string(), "in doubt", alarm(doubts));
    html.raw("</dl>\n");
}

/// Says what is left out.
fn write_cut(html: &mut Html, shown: usize, all: usize) {
    if shown < all {
        html.element("p", "soft", format_args!("{shown} of {all}"));
    }
}

fn write_doubt(html: &mut Html, effect: &EffectView, now: Timestamp) {
    let OpenState::InDoubt(reason) = &effect.state else { return };
    html.raw("<article class=\"card doubt\"").attribute("data-effect", effect.id).raw("><div class=\"top\"><h3>");
    html.text(&effect.name)
        .raw(" · ")
        .text(&effect.station)
        .raw("</h3>")
        .element("span", "tag wrong", "in doubt")
        .raw("</div><p>");
    html.text(capitalized(&effect.about)).raw(", asked ");
    write_ago(html, effect.requested_at, now);
    html.raw(".</p><p>")
        .text(capitalized(reason))
        .raw(". It is not repeated: the station is asked, or you say what happened.</p>");
    html.raw("<div class=\"answers\">");
    write_answer(html, "It happened", "Record that it happened?", r#"{"verdict":"done","by":"dashboard"}"#);
    write_answer(html, "It did not", "Record that it did not?", r#"{"verdict":"notDone","by":"dashboard"}"#);
    html.raw("<span class=\"soft\" role=\"status\" data-note></span></div></article>");
}

fn write_answer(html: &mut Html, label: &'static str, confirm: &'static str, body: &'static str) {
    html.raw("<button type=\"button\"").attribute("data-label", label).attribute("data-confirm", confirm);
    html.attribute("data-body", body).raw(">").raw(label).raw("</button>");
}

fn write_station(html: &mut Html, station: &StationView, now: Timestamp) {
    html.raw("<article class=\"card\"><div class=\"top\"><h3>").text(&station.identity).raw("</h3>");
    match station.connection {
        Connection::Online(_) => html.element("span", "tag ready", "online"),
        Connection::Offline(_) => html.element("span", "tag wrong", "offline"),
        Connection::Unknown => html.element("span", "tag quiet", "not heard of"),
    };
    html.raw("</div><p class=\"soft\">").text(station.model.as_deref().unwrap_or("has not said what it is"));
    if let Some(firmware) = &station.firmware {
        html.raw(" · firmware ").text(firmware);
    }
    if let Connection::Online(since) | Connection::Offline(since) = station.connection {
        html.raw(" · for ");
        write_time(html, since, span(now.since(since).as_secs()));
    }
    html.raw("</p><ul class=\"connectors\">");
    station.connectors.iter().for_each(|connector| write_connector(html, connector, now));
    html.raw("</ul></article>");
}

fn write_connector(html: &mut Html, connector: &ConnectorView, now: Timestamp) {
    html.raw("<li>");
    match connector.number {
        0 => html.raw("<span class=\"number\" title=\"the station itself\">★</span>"),
        number => html.element("span", "number", number),
    };
    html.raw("<span><span class=\"tag ").raw(class(connector.tone)).raw("\">").text(&connector.status).raw("</span>");
    for more in [&connector.error, &connector.held_for].into_iter().flatten() {
        html.raw(" ").element("span", "soft", more);
    }
    html.raw("</span>");
    if let Some(since) = connector.since {
        write_ago(html, since, now);
    }
    html.raw("</li>");
}

fn write_transactions(html: &mut Html, view: &View) {
    html.raw("<section aria-labelledby=\"charging\"><h2 id=\"charging\">Charging now</h2>");
    if view.transactions.is_empty() {
        html.raw("<p class=\"soft\">Nobody.</p></section>\n");
        return;
    }
    write_cut(html, view.transactions.len(), view.counts.running);
    html.raw(
        "<div class=\"wide\"><table><caption>Transactions that run</caption><thead><tr><th class=\"number\">Transaction</th>",
    );
    html.raw("<th>Station</th><th class=\"number\">Connector</th><th>Id tag</th><th class=\"number\">Energy</th>");
    html.raw("<th class=\"number\">Running for</th><th class=\"number\">Last meter value</th></tr></thead><tbody>");
    view.transactions.iter().for_each(|transaction| write_transaction(html, transaction, view.as_of));
    html.raw("</tbody></table></div></section>\n");
}

fn write_transaction(html: &mut Html, transaction: &TransactionView, now: Timestamp) {
    html.raw("<tr><td class=\"number\" data-label=\"Transaction\"><a")
        .attribute("href", format_args!("/api/transactions/{}", transaction.id))
        .raw(">");
    html.text(transaction.id)
        .raw("</a></td><td data-label=\"Station\">")
        .text(&transaction.station)
        .raw("</td><td class=\"number\" data-label=\"Connector\">");
    match transaction.connector {
        Some(connector) => html.text(connector),
        None => html.raw("–"),
    };
    html.raw("</td><td data-label=\"Id tag\">").text(&transaction.id_tag).raw("</td><td class=\"number\" data-label=\"Energy\">");
    match transaction.energy_wh {
        Some(wh) => html.text(kilowatt_hours(wh)).raw(" kWh"),
        None => html.raw("–"),
    };
    html.raw("</td><td class=\"number\" data-label=\"Running for\">")
        .text(span(now.since(transaction.started_at).as_secs()))
        .raw("</td><td class=\"number\" data-label=\"Last meter value\">");
    match transaction.last_meter_at {
        Some(at) => write_ago(html, at, now),
        None => drop(html.raw("–")),
    }
    html.raw("</td></tr>");
}

fn write_in_flight(html: &mut Html, effects: &[&EffectView], now: Timestamp) {
    html.raw("<section aria-labelledby=\"flight\"><h2 id=\"flight\">In flight</h2>");
    if effects.is_empty() {
        html.raw("<p class=\"soft\">Nothing is being asked of a station.</p></section>\n");
        return;
    }
    html.raw("<div class=\"wide\"><table><caption>Effects in flight</caption><thead><tr><th class=\"number\">Effect</th>");
    html.raw("<th>What</th><th>Station</th><th>About</th><th>State</th><th class=\"number\">Asked</th></tr></thead><tbody>");
    for effect in effects {
        html.raw("<tr><td class=\"number\" data-label=\"Effect\"><a")
            .attribute("href", format_args!("/api/effects/{}", effect.id))
            .raw(">");
        html.text(effect.id)
            .raw("</a></td><td data-label=\"What\">")
            .text(&effect.name)
            .raw("</td><td data-label=\"Station\">")
            .text(&effect.station);
        html.raw("</td><td data-label=\"About\">").text(&effect.about).raw("</td><td data-label=\"State\">");
        match &effect.state {
            OpenState::Waiting(reason) => {
                html.element("span", "tag waiting", "tried again").raw(" ").element("span", "soft", reason)
            }
            OpenState::InFlight | OpenState::InDoubt(_) => html.element("span", "tag busy", "in flight"),
        };
        html.raw("</td><td class=\"number\" data-label=\"Asked\">");
        write_ago(html, effect.requested_at, now);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>\n");
}

fn write_ago(html: &mut Html, at: Timestamp, now: Timestamp) {
    write_time(html, at, format_args!("{} ago", span(now.since(at).as_secs())));
}

fn write_time(html: &mut Html, at: Timestamp, words: impl Display) {
    html.raw("<time").attribute("datetime", at).attribute("title", at).raw(">").text(words).raw("</time>");
}

/// A span in its largest unit, and the next one where it is short.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn kilowatt_hours(wh: i64) -> String {
    let sign = if wh < 0 { "-" } else { "" };
    let wh = wh.unsigned_abs();
    format!("{sign}{}.{:02}", wh / 1_000, wh % 1_000 / 10)
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Ready => "ready",
        Tone::Busy => "busy",
        Tone::Waiting => "waiting",
        Tone::Wrong => "wrong",
        Tone::Quiet => "quiet",
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
