//! A message as plain text: for the console, and as the text part of a mail.
//!
//! Complete on its own; commands stand alone on their line so that they can be copied.

use super::{Message, words};

/// Widest line (RFC 5322 §2.1.1 recommends 78).
const WIDTH: usize = 78;

/// The text part of a mail: at most 78 columns.
#[must_use]
pub fn plain(message: &Message) -> String {
    let mut out = String::new();
    // The first line's indent may hold a mark; the others stand under its text.
    let mut paragraph = |text: &str, indent: &str| {
        let hanging =
            if indent.contains('|') { indent.to_owned() } else { " ".repeat(indent.len()) };
        for (index, line) in wrapped(text, WIDTH - indent.len()).iter().enumerate() {
            out.push_str(if index == 0 { indent } else { &hanging });
            out.push_str(line);
            out.push('\n');
        }
    };
    paragraph(&message.headline(), "");
    paragraph("", "");
    if !message.lead.is_empty() {
        paragraph(&message.lead.join(" "), "");
        paragraph("", "");
    }
    if !message.steps.is_empty() {
        paragraph("Do now", "");
        for (index, step) in message.steps.iter().enumerate() {
            paragraph(&step.text, &format!("  {}. ", index + 1));
            if let Some(command) = &step.command {
                paragraph(command, "       ");
            }
        }
        paragraph("", "");
    }
    for (label, value) in &message.facts {
        paragraph(&format!("{label}: {value}"), "");
    }
    if !message.facts.is_empty() {
        paragraph("", "");
    }
    for evidence in &message.evidence {
        paragraph(evidence.label, "");
        for line in evidence.text.lines() {
            paragraph(line, "  | ");
        }
        paragraph("", "");
    }
    if let Some(by_itself) = &message.by_itself {
        paragraph(by_itself, "");
        paragraph("", "");
    }
    for annotation in &message.annotations {
        paragraph(&annotation.in_words(), "* ");
    }
    if !message.annotations.is_empty() {
        paragraph("", "");
    }
    paragraph("--", "");
    for line in message.footer() {
        paragraph(&line, "");
    }
    if let Some(command) = message.ack_command() {
        paragraph(&format!("No more reminders: {command}"), "");
    }
    out
}

/// For the console: the same, between two rules so that it stands out in a log.
#[must_use]
pub fn console(message: &Message) -> String {
    let rule = "─".repeat(WIDTH);
    format!("{rule}\n{}{rule}\n", plain(message))
}

/// Lines of at most `width` characters, broken at spaces, within words only where one is longer
/// than a line. An empty text is one empty line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut n_chars = 0;
    for word in words::one_line(text).split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if n_chars > 0 && n_chars + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            n_chars = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.iter().collect());
            word = rest;
        }
        if n_chars > 0 {
            line.push(' ');
            n_chars += 1;
        }
        n_chars += word.len();
        line.extend(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_only_long_words_in_themselves() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("a abcdefghij b", 4), ["a", "abcd", "efgh", "ij b"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
