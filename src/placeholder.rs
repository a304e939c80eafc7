//! `${NAME}` and `$$` in a text: the one grammar of what is filled in, for whoever fills it in.
//!
//! A leaf: configuration checks by it, the keeper fills in by it, what older versions stored is put
//! back by it. Where it holds at all is its users' business.
//! Invariant: `$$` is the only escape, and a `$` that begins neither is itself.

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// As it is; `$$` has become `$`.
    Text(&'a str),
    /// `${NAME}`.
    Name(&'a str),
    /// `${` with something else behind it, up to its brace or the end.
    NotAName(&'a str),
}

/// Why a text could not be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfilled {
    /// No such variable, or an empty one.
    NotSet(String),
    /// `${` without a name and a brace behind it, as it was written.
    NotAName(String),
}

/// What can be a variable's name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The text with every `${NAME}` filled in. White space around a value is none of it; an empty value
/// counts as not set.
///
/// # Errors
/// Everything that can't be filled in.
pub fn fill<'v>(
    text: &str,
    value_of: impl Fn(&str) -> Option<&'v str>,
) -> Result<String, Vec<Unfilled>> {
    let mut filled = String::new();
    let mut unfilled = Vec::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Name(name) => match value_of(name).map(str::trim).filter(|it| !it.is_empty()) {
                Some(value) => filled.push_str(value),
                None => unfilled.push(Unfilled::NotSet(name.to_owned())),
            },
            Part::NotAName(text) => unfilled.push(Unfilled::NotAName(text.to_owned())),
        }
    }
    if unfilled.is_empty() { Ok(filled) } else { Err(unfilled) }
}

/// The text without its `${NAME}`s: what somebody really typed.
#[must_use]
pub fn typed(text: &str) -> String {
    parts(text)
        .filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Name(_) | Part::NotAName(_) => None,
        })
        .collect()
}

/// The names in it, in their order.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text).filter_map(|part| match part {
        Part::Name(name) => Some(name),
        Part::Text(_) | Part::NotAName(_) => None,
    })
}

/// Whether something could have become this text by filling it in, with whatever values.
#[must_use]
pub fn could_become(template: &str, text: &str) -> bool {
    let mut rest = text;
    let mut is_after_name = false;
    for part in parts(template) {
        match part {
            Part::Name(_) => is_after_name = true,
            Part::Text(fixed) | Part::NotAName(fixed) if is_after_name => {
                let Some(at) = rest.find(fixed) else { return false };
                rest = &rest[at + fixed.len()..];
                is_after_name = false;
            }
            Part::Text(fixed) | Part::NotAName(fixed) => {
                let Some(after) = rest.strip_prefix(fixed) else { return false };
                rest = after;
            }
        }
    }
    // What follows the last name is at the end, however often it stands before that.
    rest.is_empty() || is_after_name || ends_alike(template, text)
}

fn ends_alike(template: &str, text: &str) -> bool {
    let last = parts(template).last();
    let has_name = names(template).next().is_some();
    has_name && matches!(last, Some(Part::Text(fixed)) if text.ends_with(fixed))
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = first_part(rest);
        rest = after;
        Some(part)
    })
}

/// The first part of a text that is not empty, and what follows it.
fn first_part(text: &str) -> (Part<'_>, &str) {
    if let Some(after) = text.strip_prefix("$$") {
        return (Part::Text("$"), after);
    }
    if text.starts_with("${") {
        let end = text.find('}').map_or(text.len(), |brace| brace + 1);
        let (braces, after) = text.split_at(end);
        let name = braces.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
        return match name.filter(|name| is_name(name)) {
            Some(name) => (Part::Name(name), after),
            None => (Part::NotAName(braces), after),
        };
    }
    // Up to the next `$` that begins something; the first byte may be one that does not.
    let begins = |at: &usize| text[*at..].starts_with("$$") || text[*at..].starts_with("${");
    let next = text.match_indices('$').map(|(at, _)| at).find(begins);
    let (plain, after) = text.split_at(next.unwrap_or(text.len()));
    (Part::Text(plain), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(name: &str) -> Option<&'static str> {
        match name {
            "HOST" => Some(" mail.example\r\n"),
            "NESTED" => Some("${HOST} $$"),
            "EMPTY" => Some(" "),
            _ => None,
        }
    }

    #[test]
    fn names_become_values_once_and_two_dollars_become_one() {
        for (text, filled) in [
            ("", ""),
            ("smtp://${HOST}:25", "smtp://mail.example:25"),
            ("${HOST}${HOST}", "mail.examplemail.example"),
            ("costs $5, $HOME and $", "costs $5, $HOME and $"),
            ("$${HOST}", "${HOST}"),
            ("$$$${HOST}", "$${HOST}"),
            ("$$${HOST}", "$mail.example"),
            ("$$5", "$5"),
            ("ü${NESTED}ü", "ü${HOST} $$ü"),
        ] {
            assert_eq!(fill(text, value_of).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn everything_that_cannot_be_filled_in_is_named_as_it_was_written() {
        let unfilled = fill("${A}${EMPTY}${HOME:-x}${}${d%.*}${oops", value_of).unwrap_err();
        let not_a_name = |text: &str| Unfilled::NotAName(text.to_owned());
        let expected = [
            Unfilled::NotSet("A".to_owned()),
            Unfilled::NotSet("EMPTY".to_owned()),
            not_a_name("${HOME:-x}"),
            not_a_name("${}"),
            not_a_name("${d%.*}"),
            not_a_name("${oops"),
        ];
        assert_eq!(unfilled, expected);
    }

    #[test]
    fn what_is_typed_and_what_is_named_are_kept_apart() {
        assert_eq!(typed("Bearer ${TOKEN}$$"), "Bearer $");
        assert_eq!(names("${A} ${B:-c} $${C} ${A}").collect::<Vec<_>>(), ["A", "A"]);
    }

    #[test]
    fn a_template_is_recognised_in_what_became_of_it() {
        for (template, text, expected) in [
            ("echo ${TOKEN}; done", "echo abc; done", true),
            ("echo ${TOKEN}; done", "echo ; done; done", true),
            ("${TOKEN}", "anything at all", true),
            ("a ${X} b ${Y}", "a 1 b 2", true),
            ("echo ${TOKEN}; done", "echo abc; other", false),
            ("echo ${TOKEN}; done", "say abc; done", false),
            ("no name", "no name", true),
            ("no name", "no name, but more", false),
        ] {
            assert_eq!(could_become(template, text), expected, "{template} ← {text}");
        }
    }
}
