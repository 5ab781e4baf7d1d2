//! The consumers of the log: their progress, and the parked events that wait for a person.

use super::markup::Html;
use super::parts::{span, write_answer, write_cut};
use super::view::{ConsumerKind, ConsumerState, ConsumerView, LiveView, ParkedView};

pub(super) fn write_parked(html: &mut Html, view: &LiveView) {
    if view.parked.is_empty() {
        return;
    }
    html.raw("<section aria-labelledby=\"parked\"><h2 id=\"parked\">Parked</h2>");
    html.raw("<p>These events could not be taken in. What comes after them for the same key waits; everything else goes on.</p>");
    write_cut(html, view.parked.len(), view.parked_total);
    html.raw("<div class=\"grid\">");
    view.parked.iter().for_each(|parked| write_item(html, parked));
    html.raw("</div></section>\n");
}

fn write_item(html: &mut Html, parked: &ParkedView) {
    html.raw("<article class=\"card doubt\"").attribute("data-parked", parked.position);
    html.raw("><div class=\"top\"><h3>")
        .text(&parked.consumer)
        .raw(" · ")
        .text(&parked.key)
        .raw("</h3>");
    html.element("span", "tag wrong", format_args!("event {}", parked.position)).raw("</div><p>");
    match &parked.error {
        Some(error) => html.text(error),
        None => html.raw("Waits for an earlier one of the same key."),
    };
    html.raw("</p>");
    if parked.error.is_some() {
        html.raw("<div class=\"answers\">");
        write_answer(
            html,
            &format!("{}/retry", parked.route),
            ("Try again", "Try it again now?"),
            &parked.retry,
        );
        write_answer(
            html,
            &format!("{}/skip", parked.route),
            ("Skip", "Leave it out for good?"),
            &parked.skip,
        );
        html.raw("<span class=\"soft\" role=\"status\" data-note></span></div>");
    }
    html.raw("</article>");
}

pub(super) fn write_consumers(html: &mut Html, view: &LiveView) {
    html.raw("<section aria-labelledby=\"behind\"><h2 id=\"behind\">Behind the log</h2>");
    if view.consumers.is_empty() {
        html.raw("<p class=\"soft\">It is starting.</p></section>\n");
        return;
    }
    html.raw(
        "<div class=\"wide\"><table><caption>What follows the log</caption><thead><tr><th>What</th><th>Kind</th><th>State</th>",
    );
    html.raw("<th class=\"number\">Events behind</th><th class=\"number\">Time left</th><th>Waits for</th></tr></thead><tbody>");
    view.consumers.iter().for_each(|consumer| write_consumer(html, consumer));
    html.raw("</tbody></table></div></section>\n");
}

pub(super) fn write_servers(html: &mut Html, view: &LiveView) {
    if view.servers.is_empty() {
        return;
    }
    html.raw("<section aria-labelledby=\"servers\"><h2 id=\"servers\">Servers</h2>");
    html.raw("<div class=\"wide\"><table><caption>What each server does for all of them</caption>");
    html.raw("<thead><tr><th>Server</th><th>State</th><th>Does</th></tr></thead><tbody>");
    for server in &view.servers {
        html.raw("<tr class=\"calm\"><td data-label=\"Server\">")
            .text(&server.name)
            .raw("</td><td data-label=\"State\">");
        let (class, state) = match server.stops {
            true => ("tag busy", "stops"),
            false => ("tag ready", "works"),
        };
        html.element("span", class, state).raw("</td><td class=\"wrap\" data-label=\"Does\">");
        for (consumer, waits_for) in &server.works {
            html.raw("<div").attribute("title", waits_for).raw(">").text(consumer).raw("</div>");
        }
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>\n");
}

fn write_consumer(html: &mut Html, consumer: &ConsumerView) {
    // Where there is little room, only what is not as it should be is told in full.
    let is_calm = matches!(consumer.state, ConsumerState::UpToDate | ConsumerState::Standby);
    html.raw("<tr").attribute("class", if is_calm { "calm" } else { "alarm" });
    html.raw("><td data-label=\"What\">")
        .text(&consumer.name)
        .raw("</td><td class=\"detail\" data-label=\"Kind\">");
    html.raw(match consumer.kind {
        ConsumerKind::ReadModel => "read model",
        ConsumerKind::Process => "process",
        ConsumerKind::Effect => "effect",
    });
    html.raw("</td><td data-label=\"State\">");
    match consumer.state {
        ConsumerState::UpToDate => html.element("span", "tag ready", "up to date"),
        ConsumerState::CatchingUp => html.element("span", "tag busy", "catching up"),
        ConsumerState::Building => html.element("span", "tag busy", "being built"),
        ConsumerState::Stuck => html.element("span", "tag wrong", "does not move"),
        ConsumerState::Waits => html.element("span", "tag wrong", "waits for a person"),
        ConsumerState::Standby => html.element("span", "tag ready", "stands by"),
    };
    if consumer.behind > 0 {
        let end = consumer.position + consumer.behind;
        html.raw(" <progress").attribute("max", end.max(1)).attribute("value", consumer.position);
        html.attribute("aria-label", "progress").raw("></progress>");
    }
    html.raw("</td><td class=\"number detail\" data-label=\"Events behind\">")
        .text(consumer.behind);
    if consumer.behind > 0 {
        html.raw(" ").element("span", "soft", format_args!("{}/s", consumer.per_second));
    }
    html.raw("</td><td class=\"number detail\" data-label=\"Time left\">");
    match consumer.seconds_left {
        Some(0) | None if consumer.behind == 0 => html.raw("–"),
        Some(seconds) => html.text(span(seconds)),
        None => html.raw("unknown"),
    };
    html.raw("</td><td class=\"wrap detail\" data-label=\"Waits for\">")
        .text(&consumer.waits_for)
        .raw("</td></tr>");
}
