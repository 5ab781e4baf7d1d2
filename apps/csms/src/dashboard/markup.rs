//! HTML, written so that nothing from outside can become markup.

use std::fmt::{Display, Write as _};

/// A piece of HTML that is being written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Writes markup of our own, unchanged.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Writes a text from anywhere, in an element or in a quoted attribute, escaped.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing into a string does not fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// Writes ` name="value"`, escaped.
    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// Writes `<tag class="class">text</tag>`, the text escaped.
    pub(super) fn element(
        &mut self,
        tag: &'static str,
        class: &'static str,
        text: impl Display,
    ) -> &mut Self {
        self.raw("<")
            .raw(tag)
            .attribute("class", class)
            .raw(">")
            .text(text)
            .raw("</")
            .raw(tag)
            .raw(">")
    }

    /// Returns the HTML.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

struct Escaping<'a>(&'a mut String);

impl std::fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Control characters have no place in a page; a NUL would end it in some readers.
                control if control.is_control() && control != '\n' => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}
