//! The first page, which is live.

use leftfold::prelude::Timestamp;

use super::consumers::{write_consumers, write_parked, write_servers};
use super::markup::Html;
use super::parts::{
    Refresh, capitalized, class, kilowatt_hours, span, write_ago, write_answer, write_cut,
    write_head, write_time,
};
use super::view::{
    Admission, ConnectionView, ConnectorView, Counts, EffectView, LiveView, OpenState, StationView,
    TransactionView,
};

/// Renders the whole page.
#[must_use]
pub(crate) fn page(view: &LiveView) -> String {
    let mut html = Html::default();
    write_head(&mut html, "Charging stations", "/", Refresh::Live);
    html.raw("<main id=\"live\">");
    write_live(&mut html, view);
    html.raw("</main>\n<footer>").raw(match view.admission {
        Admission::Open => {
            "Open mode: any station and any id tag is accepted, from this machine only. "
        }
        Admission::Registered => "Registered stations and known id tags only. ",
    });
    html.raw("JSON at <a href=\"/api/stations\">/api/stations</a>, <a href=\"/api/transactions\">/api/transactions</a>, ")
        .raw("<a href=\"/api/effects\">/api/effects</a> and <a href=\"/api/read-models\">/api/read-models</a>.");
    html.raw("</footer></body></html>\n");
    html.finish()
}

/// Renders the part of the page that changes.
#[must_use]
pub(crate) fn live(view: &LiveView) -> String {
    let mut html = Html::default();
    write_live(&mut html, view);
    html.finish()
}

fn write_live(html: &mut Html, view: &LiveView) {
    if let Some(missing) = &view.missing {
        html.raw("<p class=\"card doubt\" role=\"alert\">Some of this page cannot be read now: ")
            .text(missing)
            .raw("</p>");
    }
    write_parked(html, view);
    if view.stations.is_empty() {
        write_first_steps(html, view);
        write_servers(html, view);
        return write_consumers(html, view);
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
    write_lapsed(html, view);
    write_servers(html, view);
    write_consumers(html, view);
}

fn write_first_steps(html: &mut Html, view: &LiveView) {
    html.raw(
        "<section aria-labelledby=\"first\"><h2 id=\"first\">No station has connected yet</h2>",
    );
    html.raw(
        "<p>Point a charge point that speaks OCPP 1.6J at this address; what stands behind the last slash is its identity:</p>",
    );
    html.raw("<pre>").text(&view.connect_url).raw("CP-1</pre>");
    if view.admission == Admission::Registered {
        html.raw("<p>It must be registered first:</p><pre>curl -X PUT ").text(&view.api_url);
        html.raw("/stations/CP-1 -H 'Authorization: Bearer …' -H 'Content-Type: application/json' -d '{}'</pre>");
    }
    html.raw("<p>Once it is here, start charging from afar:</p><pre>curl -X POST '")
        .text(&view.api_url);
    html.raw(
        "/stations/CP-1/remote-start?wait=30s' \\\n  -H 'Content-Type: application/json' \\\n  ",
    );
    html.raw("-d '{\"connectorId\": 1, \"idTag\": \"TAG-1\"}'</pre></section>\n");
}

fn write_counts(html: &mut Html, view: &LiveView) {
    let Counts { stations, online, running, faulted } = view.counts;
    let doubts =
        view.effects.iter().filter(|effect| matches!(effect.state, OpenState::InDoubt(_))).count();
    html.raw("<dl class=\"counts\">");
    let mut count = |number: String, what: &'static str, class: &'static str| {
        html.raw("<div")
            .attribute("class", class)
            .raw("><dt>")
            .raw(what)
            .raw("</dt><dd>")
            .text(number)
            .raw("</dd></div>");
    };
    let alarm = |count: usize| if count > 0 { "alarm" } else { "calm" };
    count(format!("{online} / {stations}"), "stations online", "calm");
    count(running.to_string(), "charging", "calm");
    count(faulted.to_string(), "faulted", alarm(faulted));
    count(doubts.to_string(), "in doubt", alarm(doubts));
    html.raw("</dl>\n");
}

fn write_doubt(html: &mut Html, effect: &EffectView, now: Timestamp) {
    let OpenState::InDoubt(reason) = &effect.state else { return };
    html.raw("<article class=\"card doubt\"")
        .attribute("data-effect", effect.id)
        .raw("><div class=\"top\"><h3>");
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
    let url = format!("/api/effects/{}/resolve", effect.id);
    let (done, not_done) = (r#"{"verdict":"done"}"#, r#"{"verdict":"notDone"}"#);
    write_answer(html, &url, ("It happened", "Record that it happened?"), done);
    write_answer(html, &url, ("It did not", "Record that it did not?"), not_done);
    html.raw("<span class=\"soft\" role=\"status\" data-note></span></div></article>");
}

fn write_lapsed(html: &mut Html, view: &LiveView) {
    if view.lapsed.is_empty() {
        return;
    }
    html.raw("<section aria-labelledby=\"lapsed\"><h2 id=\"lapsed\">Accepted, but nobody plugged in</h2>");
    html.raw("<div class=\"wide\"><table><caption>Remote starts in vain</caption><thead><tr><th>Station</th>");
    html.raw("<th class=\"number\">Connector</th><th>Id tag</th><th class=\"number\">Its time was over</th></tr></thead><tbody>");
    for lapsed in &view.lapsed {
        html.raw("<tr><td data-label=\"Station\">").text(&lapsed.station);
        html.raw("</td><td class=\"number\" data-label=\"Connector\">");
        match lapsed.connector {
            Some(connector) => html.text(connector),
            None => html.raw("any"),
        };
        html.raw("</td><td data-label=\"Id tag\">").text(&lapsed.id_tag);
        html.raw("</td><td class=\"number\" data-label=\"Its time was over\">");
        write_ago(html, lapsed.at, view.as_of);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>\n");
}

fn write_station(html: &mut Html, station: &StationView, now: Timestamp) {
    html.raw("<article class=\"card\"><div class=\"top\"><h3>")
        .text(&station.identity)
        .raw("</h3>");
    match station.connection {
        ConnectionView::Online(_) => html.element("span", "tag ready", "online"),
        ConnectionView::Offline(_) => html.element("span", "tag wrong", "offline"),
        ConnectionView::Unknown => html.element("span", "tag quiet", "not heard of"),
    };
    html.raw("</div><p class=\"soft\">")
        .text(station.model.as_deref().unwrap_or("has not said what it is"));
    if let Some(firmware) = &station.firmware {
        html.raw(" · firmware ").text(firmware);
    }
    if let ConnectionView::Online(since) | ConnectionView::Offline(since) = station.connection {
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
    html.raw("<span><span class=\"tag ")
        .raw(class(connector.tone))
        .raw("\">")
        .text(&connector.status)
        .raw("</span>");
    for more in [&connector.error, &connector.held_for].into_iter().flatten() {
        html.raw(" ").element("span", "soft", more);
    }
    html.raw("</span>");
    if let Some(since) = connector.since {
        write_ago(html, since, now);
    }
    html.raw("</li>");
}

fn write_transactions(html: &mut Html, view: &LiveView) {
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
    view.transactions
        .iter()
        .for_each(|transaction| write_transaction(html, transaction, view.as_of));
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
    html.raw("</td><td data-label=\"Id tag\">")
        .text(&transaction.id_tag)
        .raw("</td><td class=\"number\" data-label=\"Energy\">");
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
        html.raw("</td><td data-label=\"About\">")
            .text(&effect.about)
            .raw("</td><td data-label=\"State\">");
        match &effect.state {
            OpenState::Waiting(reason) => html
                .element("span", "tag waiting", "tried again")
                .raw(" ")
                .element("span", "soft", reason),
            OpenState::InFlight | OpenState::InDoubt(_) => {
                html.element("span", "tag busy", "in flight")
            }
        };
        html.raw("</td><td class=\"number\" data-label=\"Asked\">");
        write_ago(html, effect.requested_at, now);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>\n");
}
