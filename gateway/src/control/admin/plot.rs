//! A small plot of the last hour, as SVG.
//!
//! Owns its geometry. It has no text but a title and a description, and no colour: the style sheet gives it one.

use maud::{Markup, html};

use super::history::MINUTES;

/// Width of a bar with its gap, in units of the picture.
const STEP: usize = 8;

/// Width of a bar.
const BAR: usize = 6;

/// Height of the picture.
const HEIGHT: f64 = 64.0;

/// The bars of `values`, one a minute, the newest at the right. `what` names them in the title; `class` is that of the style sheet.
pub(super) fn plot(what: &str, class: &str, values: &[f64]) -> Markup {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let values: Vec<f64> = values.iter().rev().take(MINUTES).rev().copied().collect();
    let empty = MINUTES - values.len();
    let title = format!("{what} per minute in the last hour");
    let summary = match values.last() {
        None => "No minute is complete yet.".to_owned(),
        Some(last) => {
            let digits = digits(&[*last, highest]);
            format!("Last minute: {last:.digits$}. Highest: {highest:.digits$}.")
        }
    };
    let (name, description) = (format!("{class}-title"), format!("{class}-description"));
    html! {
        figure {
            svg class=(class) role="img" aria-labelledby=(format!("{name} {description}")) preserveAspectRatio="none"
                viewBox=(format!("0 0 {} {HEIGHT}", MINUTES * STEP)) {
                title id=(name) { (title) }
                desc id=(description) { (summary) }
                line x1="0" x2=(MINUTES * STEP) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
                @for (index, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
                    @let height = height(*value, highest);
                    rect x=((empty + index) * STEP) y=(format!("{:.1}", HEIGHT - height)) width=(BAR)
                        height=(format!("{height:.1}")) {}
                }
            }
            figcaption { strong { (what) " per minute" } " " (summary) }
        }
    }
}

/// At least a unit, so that one request among thousands is seen.
fn height(value: f64, highest: f64) -> f64 {
    (value / highest * (HEIGHT - 1.0)).max(1.0)
}

/// The decimals of rates that stand beside each other: one, if a small one of them needs it.
fn digits(values: &[f64]) -> usize {
    let needs_one = |value: &f64| *value < 10.0 && (value * 10.0).round() % 10.0 != 0.0;
    usize::from(values.iter().any(needs_one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_bar_for_each_minute_in_which_something_was() {
        let text = plot("Requests", "requests", &[0.0, 5.0, 10.0]).into_string();
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        // The newest is at the right, and the highest has the whole height but the line.
        assert!(text.contains("<rect x=\"472\" y=\"1.0\" width=\"6\" height=\"63.0\">"), "{text}");
        assert!(text.contains("<rect x=\"464\" y=\"32.5\""), "{text}");
        assert!(text.contains("Last minute: 10. Highest: 10."), "{text}");
    }

    #[test]
    fn more_than_an_hour_is_cut_and_nothing_at_all_is_said() {
        let many = vec![1.0; MINUTES + 7];
        assert_eq!(plot("Refusals", "refusals", &many).into_string().matches("<rect").count(), MINUTES);
        let none = plot("Refusals", "refusals", &[]).into_string();
        assert!(none.contains("No minute is complete yet.") && !none.contains("<rect"), "{none}");
    }

    #[test]
    fn a_small_value_among_large_ones_is_seen() {
        assert_eq!(height(1.0, 1e6), 1.0);
        let shown = |values: &[f64]| plot("Requests", "requests", values).into_string();
        assert!(shown(&[1234.4, 3.0]).contains("Last minute: 3. Highest: 1234."));
        // As samples of about a minute give it.
        assert!(shown(&[13.0, 6.04]).contains("Last minute: 6. Highest: 13."));
        assert!(shown(&[13.0, 0.5]).contains("Last minute: 0.5. Highest: 13.0."));
    }
}
