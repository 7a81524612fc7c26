//! A chart as inline SVG that fits any width: places along it are in percent, and heights and letters in pixels, so that text
//! is as large on a phone as on a screen. The picture is the plot alone; what stands around it reaches into the padding.

use std::fmt::Write;

/// A mark's and a letter's sizes, in pixels.
pub const LINE: f64 = 14.0;
/// What a letter takes of the width of the narrowest plot, which has some 200 pixels on a phone.
const LETTER: f64 = 7.0 / 200.0;

/// A plot in the making.
pub struct Plot {
    height: f64,
    body: String,
    /// The letters of the longest text at the left.
    left: usize,
    tiers: Vec<f64>,
}

impl Plot {
    pub fn new(height: f64) -> Self {
        Self { height, body: String::new(), left: 1, tiers: Vec::new() }
    }

    /// A bar from `x` on, of a share `width` of the whole; a very short one is as wide as can be seen.
    pub fn bar(&mut self, class: &str, x: f64, width: f64, y: f64, height: f64) {
        let width = (width * 100.0).max(0.15);
        let x = (x * 100.0).min(100.0 - width);
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// A line between two points.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let (x1, x2) = (x1 * 100.0, x2 * 100.0);
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.2}%\" y1=\"{y1:.1}\" x2=\"{x2:.2}%\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A text around `x`.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let (x, text) = (x * 100.0, escape(text));
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.2}%\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    /// A name or a number at the left, beside the height `y`.
    pub fn at_left(&mut self, y: f64, text: &str) {
        self.left = self.left.max(text.chars().count());
        let (y, text) = (y + 4.0, escape(text));
        self.add(format_args!("<text x=\"-6\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>"));
    }

    /// A tick of the axis below.
    pub fn tick(&mut self, x: f64, text: &str) {
        self.line("grid", (x, 0.0), (x, self.height));
        self.text("tick", x, self.height + LINE + 6.0, text);
    }

    /// A dashed line at `x`, with a text above the plot, beside or above the texts that are there.
    pub fn mark(&mut self, x: f64, text: &str) {
        let length = text.chars().count() as f64 * LETTER + 0.02;
        let (anchor, dx, from) = if x + length <= 1.04 { ("start", 3, x) } else { ("end", -3, x - length) };
        let tier = self.tiers.iter().position(|taken| *taken <= from).unwrap_or_else(|| {
            self.tiers.push(0.0);
            self.tiers.len() - 1
        });
        self.tiers[tier] = from + length;
        let y = -5.0 - LINE * tier as f64;
        self.line("mark", (x, y - 8.0), (x, self.height));
        let (x, text) = (x * 100.0, escape(text));
        self.add(format_args!(
            "<text class=\"marked\" x=\"{x:.2}%\" dx=\"{dx}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    /// The picture, with what is to be read in its stead: a name, and what is seen in it.
    pub fn picture(self, id: &str, name: &str, seen: &str) -> String {
        let Self { height, body, left, tiers } = self;
        let (top, left) = (8.0 + LINE * tiers.len() as f64, left as f64 * 6.6 + 10.0);
        format!(
            "<div class=plot style=\"padding-top:{top:.0}px;padding-left:{left:.0}px\">\n\
             <svg role=img aria-labelledby=\"{id}-name\" aria-describedby=\"{id}-seen\" height=\"{height:.0}\">\n\
             <title id=\"{id}-name\">{}</title>\n<desc id=\"{id}-seen\">{}</desc>\n{body}</svg>\n</div>\n",
            escape(name),
            escape(seen)
        )
    }
}

/// Text between tags, and between quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_that_are_near_each_other_stand_above_each_other() {
        let mut plot = Plot::new(100.0);
        for x in [0.1, 0.11, 0.9] {
            plot.mark(x, "0 killed");
        }
        assert_eq!(plot.tiers.len(), 2, "the last one has room beside the first");
        let picture = plot.picture("c1", "a < b", "\"c\"");
        assert!(picture.contains("a &lt; b") && picture.contains("&quot;c&quot;") && picture.contains("y=\"-19.0\""));
        assert!(picture.contains("text-anchor=\"end\">0 killed"), "the last one ends at its line: {picture}");
    }

    #[test]
    fn what_is_too_short_to_be_seen_is_seen_within_the_plot() {
        let mut plot = Plot::new(100.0);
        plot.bar("c0", 1.0, 0.0, 0.0, 10.0);
        assert!(plot.body.contains("x=\"99.85%\" width=\"0.15%\""), "{}", plot.body);
    }
}
