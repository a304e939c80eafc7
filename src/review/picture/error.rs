//! Why there is no image to send: each reason is the file's own fault and stands in its row.
//!
//! Four kinds that a person acts on differently: no image at all, a kind that is not supported
//! (convert it), too large (shrink it, or raise the limit), damaged (upload it again).
//! Invariant: "damaged" and "cut off" are never said of a file that is only unsupported or too large.

use thiserror::Error;

use crate::review::picture::format::Format;

/// Why there is no image to send.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PictureError {
    /// Zero bytes.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// Something else, such as an error page.
    #[error("this is not an image but {what}")]
    NotAPicture {
        /// `an HTML page`, `plain text`, …
        what: String,
    },
    /// An image that neither we nor the provider can read.
    #[error("{format} images are not supported{hint}")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// What to do, with a leading `: `, or nothing.
        hint: &'static str,
    },
    /// A format that can be read, in a variant that can't.
    #[error("this kind of {format} file is not supported ({variant}): convert it to JPEG")]
    UnsupportedVariant {
        /// The format.
        format: Format,
        /// What is not supported.
        variant: String,
    },
    /// The end is missing.
    #[error("the {format} file is cut off: {detail}")]
    CutOff {
        /// The format.
        format: Format,
        /// How we know.
        detail: String,
    },
    /// The content contradicts itself or its checksums.
    #[error("the {format} file is damaged: {detail}")]
    Damaged {
        /// The format.
        format: Format,
        /// What the decoder said.
        detail: String,
    },
    /// Beyond the limits of `[picture]`.
    #[error("the image is too large: {width} x {height} pixels, the limit is {limit}")]
    TooManyPixels {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The limit that it breaks, in words.
        limit: String,
    },
    /// A decoder needs more memory than an image within the limits may take.
    #[error("the image is too large: this {format} file takes too much memory to decode")]
    TooMuchMemory {
        /// The format.
        format: Format,
    },
    /// Beyond the limit on the file.
    #[error("the file is too large: {bytes} bytes, the limit is {limit}")]
    TooManyBytes {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A small file that would keep a processor busy for minutes.
    #[error("the JPEG file has {scans} or more scans: it is made to keep programs busy")]
    TooManyScans {
        /// Counted so far.
        scans: u32,
    },
    /// The decoder panicked.
    #[error("the {format} file can't be decoded: the decoder failed on it")]
    Crashed {
        /// The format.
        format: Format,
    },
}

/// What a decoder said, fit for a row: one line, bounded, without a program's own notation.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    // Decoders that print their structures, and texts that were quoted once already.
    let short = match line.find(['{', '[', '`', '"']) {
        Some(0) | None => line.as_str(),
        Some(at) => &line[..at],
    };
    let short = short.trim_end_matches([' ', ':', ',', '(', '.']);
    let short: String = short.chars().filter(|c| !"\"`{}".contains(*c)).take(160).collect();
    if short.trim().is_empty() { "its content can't be read".to_owned() } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_decoder_says_is_told_without_its_notation() {
        for (said, expected) in [
            ("Corrupt RLE\n data.", "Corrupt RLE data"),
            (
                "Format error decoding Png: ChunkType { type: IDAT, critical: true } appears after",
                "Format error decoding Png: ChunkType",
            ),
            ("\"[strict-mode]: Extra bytes\"", "[strict-mode]: Extra bytes"),
            ("the color type `Unknown(16)`", "the color type"),
            ("{ }", "its content can't be read"),
        ] {
            assert_eq!(plain(said), expected);
        }
        assert!(plain(&"long ".repeat(100)).len() <= 160);
    }
}
