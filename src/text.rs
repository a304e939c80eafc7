//! Text from outside (a model's answer, a service's error, a job's output), made safe to store, print
//! and send.
//!
//! It is cleaned where it enters, and once more by whatever prints to a terminal. Redacting secrets is
//! [`crate::redact`]'s, escaping markup the page's.
//! Invariant: what leaves here holds no control character but line feed and tab, no terminal sequence,
//! and nothing that is invisible or turns the direction of what stands around it; cleaning twice
//! changes nothing more.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// Characters of a terminal's string (a title, a link) that are looked through for its end: a text full
/// of beginnings must not be read to its end for each of them.
const MAX_STRING: usize = 256;

/// Marks the place where a text was cut.
const CUT: char = '…';

/// The text without anything hidden; line feeds and tabs stay.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\u{9b}' => skip_to_final_byte(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            // What moves to another line on a terminal, or to another paragraph in a page.
            '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            c if is_hidden(c) => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The same, cut after so many characters.
#[must_use]
pub fn bounded(text: &str, max_chars: usize) -> String {
    cut(printable(text).trim(), max_chars)
}

/// The same on one line, with single spaces.
#[must_use]
pub fn line(text: &str, max_chars: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let clean = printable(&words.join(" ")).split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&clean, max_chars)
}

/// Whether a character is one that nobody sees, or that changes how others are seen.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    let is_control = c.is_control() && c != '\n' && c != '\t';
    // Soft hyphen, Arabic letter mark, Mongolian vowel separator, zero-width characters and direction
    // marks, line and paragraph separators, embeddings and overrides, invisible operators and
    // isolates, byte order mark, interlinear marks, tags (Unicode's Default_Ignorable_Code_Point
    // without variation selectors, which belong to emoji).
    is_control
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain([CUT]).collect()
}

/// What follows an escape character (ECMA-48): a control sequence, a string, or a single character.
fn skip_sequence(chars: &mut Peekable<Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_to_final_byte(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        Some(_) | None => {}
    }
}

/// Parameters and the final byte of a control sequence; what can't belong to one stays.
fn skip_to_final_byte(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    let _ = chars.next_if(|c| ('@'..='~').contains(c));
}

/// A string up to its terminator. The text of one that does not end stays, and is harmless without
/// what introduced it.
fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    for _ in 0..MAX_STRING {
        let Some(c) = ahead.next() else { return };
        match c {
            '\u{7}' | '\u{9c}' => {
                *chars = ahead;
                return;
            }
            '\u{1b}' if ahead.peek() == Some(&'\\') => {
                ahead.next();
                *chars = ahead;
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How hostile texts look afterwards.
    const HOSTILE: [(&str, &str); 14] = [
        ("a\0b", "ab"),
        ("\u{1b}[31mred\u{1b}[0m", "red"),
        ("\u{1b}]0;title\u{7}after", "after"),
        ("\u{1b}]52;c;c3R1ZmY=\u{1b}\\after", "after"),
        ("\u{9b}2Jafter", "after"),
        ("\u{9d}0;title\u{9c}after", "after"),
        ("\u{1b}Pq…\u{1b}\\after", "after"),
        ("\u{1b}]0;never ends", "0;never ends"),
        ("\u{1b}", ""),
        ("safe\u{202e}gpj.exe", "safegpj.exe"),
        ("zero\u{200b}wi\u{feff}dth\u{2066}", "zerowidth"),
        ("tag\u{e0041}ged", "tagged"),
        ("one\r\ntwo\rthree\u{2028}four", "one\ntwo\nthree\nfour"),
        ("\u{1b}[38;5;1m\u{1b}[K", ""),
    ];

    #[test]
    fn nothing_hidden_is_left_of_a_hostile_text() {
        for (text, expected) in HOSTILE {
            assert_eq!(printable(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in ["Zwei Menschen, ein Hund.", "日本語 🐕‍", "a\tb\nc", "naïve ❤\u{fe0f}", ""]
        {
            assert_eq!(printable(text), text.replace('\u{200d}', ""), "{text:?}");
        }
    }

    #[test]
    fn whatever_comes_in_nothing_hidden_comes_out_and_cleaning_twice_changes_nothing() {
        let mut random = fastrand::Rng::with_seed(20_261_127);
        let parts = [
            "\u{1b}", "[", "]", "P", "\\", "\u{7}", "\u{9b}", "\u{9d}", "m", "1", "\0", "é",
            "\u{202e}", " ", "\r", "\n",
        ];
        for _ in 0..5000 {
            let text: String =
                (0..random.usize(..12)).map(|_| *random.choice(&parts).unwrap()).collect();
            let once = printable(&text).into_owned();
            assert!(!once.chars().any(is_hidden), "{text:?}");
            assert_eq!(printable(&once), once, "{text:?}");
            let short = line(&text, 5);
            assert!(short.chars().count() <= 5 && !short.contains('\n'), "{text:?} {short:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(line("one  two\nthree", 100), "one two three");
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(bounded(&"x".repeat(1_000_000), 3), "xx…");
    }
}
