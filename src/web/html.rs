//! Text made safe for HTML, in elements and in quoted attributes.

use std::fmt;

use crate::text::is_hidden;

/// Writes any value as text.
pub(super) fn text<T: fmt::Display>(value: T) -> Text<T> {
    Text(value)
}

pub(super) struct Text<T>(T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                // Controls have no meaning in a page, and some break it (NUL); what turns the direction
                // of the text around it makes it say something else.
                c if is_hidden(c) => self.0.write_char('\u{fffd}')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        let hostile = "<script src='x'>\"&\0";
        assert_eq!(text(hostile).to_string(), "&lt;script src=&#39;x&#39;&gt;&quot;&amp;\u{fffd}");
    }
}
