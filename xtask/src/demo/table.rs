//! The outcomes as a table for a terminal.

use std::fmt::Write as _;

/// One request and its outcome.
#[derive(Debug)]
pub(super) struct Row {
    /// What was sent, and by which sender.
    pub(super) sent: String,
    /// Status and reason; without an answer, what the client saw.
    pub(super) answer: String,
    /// What reached a handler.
    pub(super) handler_got: String,
    /// Whether the outcome is the expected one.
    pub(super) as_expected: bool,
}

const HEADINGS: [&str; 4] = ["sent", "answer", "handler got", "as expected"];

/// The table, with columns as wide as their widest cell.
pub(super) fn render(rows: &[Row]) -> String {
    let cells: Vec<[&str; 4]> = rows
        .iter()
        .map(|row| [row.sent.as_str(), &row.answer, &row.handler_got, if row.as_expected { "yes" } else { "NO" }])
        .collect();
    let width = |column: usize| {
        let widest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        widest.max(HEADINGS[column].len())
    };
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut text = String::from("\n");
    line(&mut text, HEADINGS, widths);
    line(&mut text, widths.map(|width| "─".repeat(width)).each_ref().map(String::as_str), widths);
    for row in cells {
        line(&mut text, row, widths);
    }
    text.push('\n');
    text
}

fn line(text: &mut String, cells: [&str; 4], widths: [usize; 4]) {
    for (cell, width) in cells.into_iter().zip(widths) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{cell:<width$}  ");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |sent: &str, as_expected| Row {
            sent: sent.into(),
            answer: "200".into(),
            handler_got: "nothing".into(),
            as_expected,
        };
        let text = render(&[row("short", true), row("a longer one — with a dash", false)]);
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].ends_with("yes") && lines[3].ends_with("NO"), "{text}");
        let at = |line: &str| line.char_indices().position(|(index, _)| line[index..].starts_with("200"));
        assert_eq!(at(lines[2]), at(lines[3]), "{text}");
    }
}
