//! Converts Markdown to a manual page, with the macros of man(7): the elements that our documents use.
//!
//! A table becomes a list with an entry per row, because terminals are too narrow for tables with sentences. Must not lose text: an
//! unknown element becomes plain text.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Appends `markdown` to `page`, without its first-level heading, because a manual page has its own title.
pub(super) fn append(page: &mut Roff, markdown: &str) {
    let mut writer = Writer { page, inlines: Vec::new(), style: roman, table: None, after_tag: false };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.event(event);
    }
}

/// The table being read: its header, and the cells of the current row.
#[derive(Default)]
struct Table {
    header: Vec<String>,
    row: Vec<Vec<Inline>>,
    in_header: bool,
}

struct Writer<'a> {
    page: &'a mut Roff,
    /// The text of the current paragraph, heading or cell.
    inlines: Vec<Inline>,
    style: fn(String) -> Inline,
    table: Option<Table>,
    /// A list item has begun; its macro replaces that of its first paragraph.
    after_tag: bool,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.inlines.push((self.style)(text.into_string())),
            Event::Code(text) => self.inlines.push(bold(text.into_string())),
            Event::SoftBreak | Event::HardBreak => self.inlines.push(roman(" ")),
            other => self.inlines.extend(text_of(&other).map(roman)),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Paragraph if std::mem::take(&mut self.after_tag) => {}
            Tag::Paragraph => drop(self.page.control("PP", [])),
            Tag::Item => {
                self.flush();
                self.page.control("IP", ["\\(bu", "2"]);
                self.after_tag = true;
            }
            Tag::CodeBlock(kind) => {
                self.flush();
                let indent = if matches!(kind, CodeBlockKind::Indented) { "2n" } else { "4n" };
                self.page.control("PP", []).control("RS", [indent]).control("EX", []);
            }
            Tag::Emphasis => self.style = |text| italic(text),
            Tag::Strong => self.style = |text| bold(text),
            Tag::Table(_) => self.table = Some(Table::default()),
            Tag::TableHead => self.table_mut(|table| table.in_header = true),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let text = plain(&std::mem::take(&mut self.inlines));
                match level as usize {
                    1 => {}
                    // The name of a configuration section keeps its case.
                    2 if text.starts_with('[') => drop(self.page.control("SH", [&*text])),
                    2 => drop(self.page.control("SH", [&*text.to_uppercase()])),
                    _ => drop(self.page.control("SS", [&*text])),
                }
            }
            TagEnd::Paragraph => self.flush(),
            TagEnd::Item => {
                self.flush();
                // A tight item has no paragraph, and the next one belongs to the text after the list.
                self.after_tag = false;
            }
            TagEnd::CodeBlock => {
                let text = plain(&std::mem::take(&mut self.inlines));
                for line in text.lines() {
                    self.page.text([roman(line)]);
                }
                self.page.control("EE", []).control("RE", []);
            }
            TagEnd::Emphasis | TagEnd::Strong => self.style = roman,
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inlines);
                self.table_mut(|table| match table.in_header {
                    true => table.header.push(plain(&cell)),
                    false => table.row.push(cell),
                });
            }
            TagEnd::TableHead => self.table_mut(|table| table.in_header = false),
            TagEnd::TableRow => self.row(),
            TagEnd::Table => self.table = None,
            _ => {}
        }
    }

    fn table_mut(&mut self, change: impl FnOnce(&mut Table)) {
        if let Some(table) = &mut self.table {
            change(table);
        }
    }

    /// Writes a row: the first cell is the tag, the last one the text; those between are in brackets with their headings.
    fn row(&mut self) {
        let Some(table) = &mut self.table else { return };
        let mut cells = std::mem::take(&mut table.row).into_iter().zip(&table.header);
        let (Some((tag, _)), last) = (cells.next(), cells.next_back()) else { return };
        let between: Vec<_> = cells.filter(|(cell, _)| !cell.is_empty()).collect();
        self.page.control("TP", []).text(tag);
        let mut text = Vec::new();
        for (index, (cell, heading)) in between.into_iter().enumerate() {
            text.push(roman(format!("{}{heading}: ", if index == 0 { "[" } else { "; " })));
            text.extend(cell);
        }
        if !text.is_empty() {
            text.push(roman("] "));
        }
        text.extend(last.map(|(cell, _)| cell).unwrap_or_default());
        self.page.text(text);
    }

    fn flush(&mut self) {
        if !self.inlines.is_empty() {
            self.page.text(std::mem::take(&mut self.inlines));
        }
    }
}

fn text_of(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
            Some(text.to_string())
        }
        _ => None,
    }
}

/// The text without fonts.
fn plain(inlines: &[Inline]) -> String {
    let texts = inlines.iter().map(|inline| match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.as_str(),
        _ => " ",
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_after_a_list_does_not_join_its_last_item() {
        let mut page = Roff::new();
        append(&mut page, "- one\n- two\n\nAfter the list.\n");
        let roff = page.to_roff();
        let lines: Vec<&str> = roff.lines().filter(|line| line.starts_with('.') || line.contains("list")).collect();
        assert!(lines.ends_with(&[".IP \\(bu 2", ".PP", "After the list."]), "{roff}");
    }
}
