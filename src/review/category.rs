//! From the model's answer to the category string, by the rules of docs/legacy-service.md.
//!
//! Pure. What the codes mean is the prompt's business; what becomes of an unreadable answer is
//! `settle`'s: only a whole, valid [`Answer`] gets here.
//! Invariant: `good` means that not one code was given.

use crate::review::reviewer::Answer;

/// What an answer without any code becomes.
pub const GOOD: &str = "good";

/// One thing that a picture can show, in the order of the category string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "docs/legacy-service.md says what each code means")]
pub enum Code {
    T1,
    T2,
    W1,
    H1,
    N1,
    B1,
    BR,
    CP,
    PL,
    PP,
}

impl Code {
    /// All of them, in the order of the category string.
    pub const ALL: [Self; 10] = [
        Self::T1,
        Self::T2,
        Self::W1,
        Self::H1,
        Self::N1,
        Self::B1,
        Self::BR,
        Self::CP,
        Self::PL,
        Self::PP,
    ];

    /// As it stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::T1 => "T1",
            Self::T2 => "T2",
            Self::W1 => "W1",
            Self::H1 => "H1",
            Self::N1 => "N1",
            Self::B1 => "B1",
            Self::BR => "BR",
            Self::CP => "CP",
            Self::PL => "PL",
            Self::PP => "PP",
        }
    }

    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// Whether the answer gives this code. Text codes need text to be present at all.
    #[must_use]
    pub fn is_in(self, answer: &Answer) -> bool {
        match self {
            Self::T1 => answer.text_present && answer.text_correct,
            Self::T2 => answer.text_present && answer.text_errors,
            Self::W1 => answer.watermark,
            Self::H1 => answer.humans,
            Self::N1 => answer.nudity,
            Self::B1 => answer.blood,
            Self::BR => answer.brands,
            Self::CP => answer.copyright,
            Self::PL => answer.places,
            Self::PP => answer.people,
        }
    }
}

/// The codes that the answer gives, in order.
#[must_use]
pub fn codes(answer: &Answer) -> Vec<Code> {
    Code::ALL.into_iter().filter(|code| code.is_in(answer)).collect()
}

/// The category string: `good`, one of `H1` and `T1` when there is nothing else, or all codes.
#[must_use]
pub fn category(answer: &Answer) -> String {
    let codes = codes(answer);
    match codes.as_slice() {
        [] => GOOD.to_owned(),
        // A clean picture with people and correct text counts as one with people.
        [Code::T1, Code::H1] => Code::H1.as_str().to_owned(),
        codes => codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer whose eleven keys are the bits of `bits`, `text_present` lowest.
    fn answer(bits: u32) -> Answer {
        let bit = |n: u32| bits & (1 << n) != 0;
        Answer {
            text_present: bit(0),
            text_correct: bit(1),
            text_errors: bit(2),
            watermark: bit(3),
            humans: bit(4),
            nudity: bit(5),
            blood: bit(6),
            brands: bit(7),
            copyright: bit(8),
            places: bit(9),
            people: bit(10),
            details: String::new(),
        }
    }

    #[test]
    fn the_documents_examples_hold() {
        for (bits, expected) in [
            (0, "good"),
            (0b1, "good"),               // text, but neither right nor wrong
            (0b110, "good"),             // right and wrong text without text
            (0b11, "T1"),                // correct text alone
            (0b1_0000, "H1"),            // people alone
            (0b1_0011, "H1"),            // both: people win
            (0b101, "T2"),               // misspelt text alone
            (0b111, "T1, T2"),           // two pieces of text
            (0b1_1011, "T1, W1, H1"),    // anything more: all codes
            (0b100_0001_0000, "H1, PP"), // a celebrity
            (0b111_1111_1111, "T1, T2, W1, H1, N1, B1, BR, CP, PL, PP"),
        ] {
            assert_eq!(category(&answer(bits)), expected, "{bits:011b}");
        }
    }

    #[test]
    fn each_of_the_2048_answers_gives_what_the_rules_say() {
        const NAMES: [&str; 8] = ["W1", "H1", "N1", "B1", "BR", "CP", "PL", "PP"];
        for bits in 0..2048_u32 {
            // The rules once more, on bits instead of fields.
            let mut expected = Vec::new();
            if bits & 0b11 == 0b11 {
                expected.push("T1");
            }
            if bits & 0b101 == 0b101 {
                expected.push("T2");
            }
            expected.extend((0..8).filter(|n| bits >> (n + 3) & 1 == 1).map(|n| NAMES[n]));
            let only_people_and_text = expected.iter().all(|code| ["H1", "T1"].contains(code));
            let expected = match expected.len() {
                0 => "good".to_owned(),
                _ if only_people_and_text && expected.contains(&"H1") => "H1".to_owned(),
                _ if only_people_and_text => "T1".to_owned(),
                _ => expected.join(", "),
            };
            assert_eq!(category(&answer(bits)), expected, "{bits:011b}");
        }
    }
}
