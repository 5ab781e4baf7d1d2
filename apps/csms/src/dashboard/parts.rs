//! Parts of several pages: the head, buttons, numbers and times.

use std::fmt::Display;

use leftfold::prelude::Timestamp;

use super::markup::Html;
use super::view::Tone;

/// Refresh of a page while it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    Live,
    Never,
}

/// Writes everything before `<main>`.
pub(super) fn write_head(
    html: &mut Html,
    title: &'static str,
    here: &'static str,
    refresh: Refresh,
) {
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>")
        .raw(title)
        .raw("</title><link rel=\"stylesheet\" href=\"/dashboard.css\"><link rel=\"icon\" href=\"data:,\">");
    if refresh == Refresh::Live {
        html.raw("<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>")
            .raw("<script src=\"/dashboard.js\" defer></script>");
    }
    html.raw("</head>\n<body><header><h1>").raw(title).raw("</h1><nav>");
    for (path, name) in [
        ("/", "Stations"),
        ("/transactions", "Transactions"),
        ("/energy", "Energy"),
        ("/account", "Account"),
    ] {
        html.raw("<a").attribute("href", path);
        if path == here {
            html.raw(" aria-current=\"page\"");
        }
        html.raw(">").raw(name).raw("</a>");
    }
    html.raw("</nav>");
    if refresh == Refresh::Live {
        html.raw("<span id=\"link\" role=\"status\" data-state=\"waiting\">connecting…</span>");
    }
    html.raw("</header>\n");
}

/// Writes the number of the items shown and of all items, if some are left out.
pub(super) fn write_cut(html: &mut Html, shown: usize, all: usize) {
    if shown < all {
        html.element("p", "soft", format_args!("{shown} of {all}"));
    }
}

/// Writes a button that asks for confirmation and then sends a body to a URL.
pub(super) fn write_answer(
    html: &mut Html,
    url: &str,
    (label, confirm): (&'static str, &'static str),
    body: &str,
) {
    html.raw("<button type=\"button\"")
        .attribute("data-label", label)
        .attribute("data-confirm", confirm);
    html.attribute("data-url", url)
        .attribute("data-body", body)
        .raw(">")
        .raw(label)
        .raw("</button>");
}

pub(super) fn write_ago(html: &mut Html, at: Timestamp, now: Timestamp) {
    write_time(html, at, format_args!("{} ago", span(now.since(at).as_secs())));
}

pub(super) fn write_time(html: &mut Html, at: Timestamp, words: impl Display) {
    html.raw("<time")
        .attribute("datetime", at)
        .attribute("title", at)
        .raw(">")
        .text(words)
        .raw("</time>");
}

/// Formats a span in its largest unit; from an hour on, also in the next smaller unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

pub(super) fn kilowatt_hours(wh: i64) -> String {
    let sign = if wh < 0 { "-" } else { "" };
    let wh = wh.unsigned_abs();
    format!("{sign}{}.{:02}", wh / 1_000, wh % 1_000 / 10)
}

pub(super) fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Ready => "ready",
        Tone::Busy => "busy",
        Tone::Waiting => "waiting",
        Tone::Wrong => "wrong",
        Tone::Quiet => "quiet",
    }
}

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
