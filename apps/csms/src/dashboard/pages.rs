//! The pages beside the live one: all transactions, and the daily report.

use super::markup::Html;
use super::parts::{Refresh, class, kilowatt_hours, write_ago, write_head};
use super::view::{EnergyDay, EnergyView, TransactionLine, TransactionsView};

/// Renders the page of transactions.
#[must_use]
pub(crate) fn transactions_page(view: &TransactionsView) -> String {
    let mut html = Html::default();
    write_head(&mut html, "Transactions", "/transactions", Refresh::Never);
    html.raw("<main><form class=\"filter\" method=\"get\">");
    write_field(&mut html, "Station", "station", "text", &view.station);
    write_field(&mut html, "Id tag", "idTag", "text", &view.id_tag);
    html.raw("<label>State<select name=\"open\">");
    for (value, name) in [(None, "all"), (Some(true), "running"), (Some(false), "over")] {
        html.raw("<option")
            .attribute("value", value.map_or("", |open| if open { "true" } else { "false" }));
        html.raw(if value == view.open { " selected>" } else { ">" }).raw(name).raw("</option>");
    }
    html.raw("</select></label><button>Show</button></form>\n");
    match &view.rows {
        Err(error) => write_missing(&mut html, error),
        Ok(rows) if rows.is_empty() => _ = html.raw("<p class=\"soft\">There is none.</p>"),
        Ok(rows) => {
            html.raw("<div class=\"wide\"><table><caption>Transactions, the newest first</caption><thead><tr>");
            html.raw("<th class=\"number\">Transaction</th><th>State</th><th>Station</th><th class=\"number\">Connector</th>");
            html.raw(
                "<th>Id tag</th><th class=\"number\">Started</th><th class=\"number\">Stopped</th>",
            );
            html.raw("<th class=\"number\">Energy</th></tr></thead><tbody>");
            rows.iter().for_each(|line| write_line(&mut html, line, view));
            html.raw("</tbody></table></div>");
        }
    }
    if let Some(older) = &view.older {
        html.raw("<p><a").attribute("href", older).raw(">Older ones</a></p>");
    }
    html.raw("</main>\n<footer>JSON at <a href=\"/api/transactions\">/api/transactions</a>, and their meter values at ");
    html.raw("<a href=\"/api/meter-values\">/api/meter-values</a>.</footer></body></html>\n");
    html.finish()
}

fn write_line(html: &mut Html, line: &TransactionLine, view: &TransactionsView) {
    let TransactionLine { transaction, state, tone, stopped_at } = line;
    html.raw("<tr><td class=\"number\" data-label=\"Transaction\"><a")
        .attribute("href", format_args!("/api/transactions/{}", transaction.id))
        .raw(">")
        .text(transaction.id)
        .raw("</a></td><td data-label=\"State\"><span class=\"tag ")
        .raw(class(*tone))
        .raw("\">")
        .raw(state)
        .raw("</span></td><td data-label=\"Station\">")
        .text(&transaction.station)
        .raw("</td><td class=\"number\" data-label=\"Connector\">");
    match transaction.connector {
        Some(connector) => html.text(connector),
        None => html.raw("–"),
    };
    html.raw("</td><td data-label=\"Id tag\">").text(&transaction.id_tag);
    html.raw("</td><td class=\"number\" data-label=\"Started\">");
    write_ago(html, transaction.started_at, view.as_of);
    html.raw("</td><td class=\"number\" data-label=\"Stopped\">");
    match stopped_at {
        Some(at) => write_ago(html, *at, view.as_of),
        None => _ = html.raw("–"),
    }
    html.raw("</td><td class=\"number\" data-label=\"Energy\">");
    match transaction.energy_wh {
        Some(wh) => html.text(kilowatt_hours(wh)).raw(" kWh"),
        None => html.raw("–"),
    };
    html.raw("</td></tr>");
}

/// Renders the daily report.
#[must_use]
pub(crate) fn energy_page(view: &EnergyView) -> String {
    let mut html = Html::default();
    write_head(&mut html, "Energy by day", "/energy", Refresh::Never);
    html.raw("<main><form class=\"filter\" method=\"get\">");
    write_field(&mut html, "From", "from", "date", &view.from);
    write_field(&mut html, "To", "to", "date", &view.to);
    write_field(&mut html, "Station", "station", "text", &view.station);
    html.raw("<button>Show</button></form>\n");
    match &view.days {
        Err(error) => write_missing(&mut html, error),
        Ok(days) if days.is_empty() => {
            _ = html.raw("<p class=\"soft\">Nothing was charged on these days.</p>")
        }
        Ok(days) => write_days(&mut html, days),
    }
    if view.is_cut {
        html.raw("<p class=\"soft\">There is more; choose fewer days, or a station.</p>");
    }
    html.raw("<p class=\"soft\">Days are those of UTC. A transaction that lasts over midnight is divided by its meter values; ");
    html.raw("where there are none, all of it counts on the day of its end.</p></main>\n<footer>JSON at ");
    html.raw("<a href=\"/api/energy\">/api/energy</a>.</footer></body></html>\n");
    html.finish()
}

fn write_days(html: &mut Html, days: &[EnergyDay]) {
    let total = |day: &EnergyDay| day.stations.iter().map(|(_, wh, _)| wh).sum::<i64>();
    let most = days.iter().map(total).max().unwrap_or_default().max(1);
    html.raw("<div class=\"wide\"><table><caption>Energy by day and station</caption><thead><tr><th>Day</th><th>Station</th>");
    html.raw("<th class=\"number\">Transactions</th><th class=\"number\">Energy</th><th>Of the best day</th></tr></thead>");
    for day in days {
        html.raw("<tbody><tr class=\"total\"><th scope=\"rowgroup\">");
        html.raw("<time")
            .attribute("datetime", &day.date)
            .raw(">")
            .text(&day.date)
            .raw("</time></th>");
        html.raw(
            "<td data-label=\"Station\">all</td><td class=\"number\" data-label=\"Transactions\">",
        );
        html.text(day.stations.iter().map(|(_, _, transactions)| transactions).sum::<i64>());
        html.raw("</td><td class=\"number\" data-label=\"Energy\">")
            .text(kilowatt_hours(total(day)))
            .raw(" kWh</td>");
        html.raw("<td data-label=\"Of the best day\"><meter min=\"0\"").attribute("max", most);
        html.attribute("value", total(day).max(0)).raw("></meter></td></tr>");
        for (station, wh, transactions) in &day.stations {
            html.raw("<tr><td></td><td data-label=\"Station\">").text(station);
            html.raw("</td><td class=\"number\" data-label=\"Transactions\">").text(transactions);
            html.raw("</td><td class=\"number\" data-label=\"Energy\">")
                .text(kilowatt_hours(*wh))
                .raw(" kWh</td><td></td></tr>");
        }
        html.raw("</tbody>");
    }
    html.raw("</table></div>");
}

fn write_field(
    html: &mut Html,
    label: &'static str,
    name: &'static str,
    kind: &'static str,
    value: &str,
) {
    html.raw("<label>").raw(label).raw("<input").attribute("name", name).attribute("type", kind);
    html.attribute("value", value).raw("></label>");
}

fn write_missing(html: &mut Html, error: &str) {
    html.raw("<p class=\"card doubt\" role=\"alert\">This cannot be read now: ")
        .text(error)
        .raw("</p>");
}
