//! Reading one section: typed getters that note a problem and go on with the default.
//!
//! Every key that is asked for is thereby known; [`Section::finish`] names the others.
//! Invariant: a getter returns a value that is right or its default, never a half-checked one.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Node, Table, Value};
use super::environment::{self, Variables};
use super::problem::{Place, Problem, nearest};
use super::units;
use crate::duration;
use crate::placeholder::{self, Unfilled};
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::timezone::TimeZones;

/// Above a year it is a slip (`300d` for `300s` still passes, `9999d` not), and sums of a few can't
/// overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What all readers share while a configuration is loaded.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) zones: &'a TimeZones,
    pub(super) problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    /// Nothing wrong so far.
    pub(super) fn new(root: &'a Path, variables: &'a Variables, zones: &'a TimeZones) -> Self {
        Self { root, variables, zones, problems: RefCell::default() }
    }

    /// What was found wrong since the last time.
    pub(super) fn take_problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    /// What was found wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Notes a problem.
    pub(super) fn problem(
        &self,
        place: Place,
        key: impl Into<String>,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let problem =
            Problem { place, key: key.into(), what: what.into(), instead: instead.into() };
        self.problems.borrow_mut().push(problem);
    }
}

/// Whether `${NAME}`s must be there: in a file that is switched off they need not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Required,
    LeftAlone,
}

/// One section of one file.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    table: &'a Table,
    path: String,
    place: Place,
    names: Names,
    known: RefCell<Vec<String>>,
}

/// A section that nobody wrote.
static EMPTY: Table = Table { entries: std::collections::BTreeMap::new() };

impl<'a> Section<'a> {
    /// A whole file.
    pub(super) fn file(reader: &'a Reader<'a>, table: &'a Table, file: &str, names: Names) -> Self {
        let known = RefCell::default();
        Self { reader, table, path: String::new(), place: Place::file(file), names, known }
    }

    /// Whether the key stands there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.entries.contains_key(key)
    }

    /// Whether anything stands in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }

    /// Whether the values of variables are needed.
    pub(super) fn names(&self) -> Names {
        self.names
    }

    /// Whether anything was found wrong in this file so far.
    pub(super) fn has_problems(&self) -> bool {
        self.reader.problems.borrow().iter().any(|problem| problem.place.file == self.place.file)
    }

    /// Its keys, in alphabetical order, for sections whose keys are the user's own words.
    pub(super) fn keys(&self) -> Vec<String> {
        self.table.entries.keys().cloned().collect()
    }

    /// Notes a problem with a key, or, if it does not stand there, with the section.
    pub(super) fn problem(&self, key: &str, what: impl Into<String>, instead: impl Into<String>) {
        match self.table.entries.get(key) {
            Some(entry) => self.problem_with(&entry.node, key, what, instead),
            None => self.reader.problem(self.place.clone(), self.path_of(key), what, instead),
        }
    }

    fn problem_with(
        &self,
        node: &Node,
        key: &str,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let key = node.variable.clone().unwrap_or_else(|| self.path_of(key));
        self.reader.problem(node.place.clone(), key, what, instead);
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        self.known.borrow_mut().push(key.to_owned());
        self.table.entries.get(key).map(|entry| &entry.node)
    }

    fn wrong_type(&self, node: &Node, key: &str, wanted: &str, example: &str) {
        self.problem_with(
            node,
            key,
            format!("this must be {wanted}, not {}", node.value.type_name()),
            format!("write {example}"),
        );
    }

    /// The text with its `${NAME}`s filled in.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        self.text_of(node, key)
    }

    fn text_of(&self, node: &Node, key: &str) -> Option<String> {
        let text = self.raw_of(node, key)?;
        if node.value.untyped().is_some() {
            return Some(text);
        }
        self.resolve(node, key, &text)
    }

    /// The text as it was written; its `${NAME}`s must exist but are filled in later.
    pub(super) fn raw_text(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        let text = self.raw_of(node, key)?;
        self.resolve(node, key, &text)?;
        Some(text)
    }

    /// A text that is stored as it is written: a `${NAME}` in it is refused, since it would neither
    /// be filled in nor mean itself.
    pub(super) fn plain(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        let text = self.raw_of(node, key)?;
        self.without_names(node, key, text)
    }

    fn without_names(&self, node: &Node, key: &str, text: String) -> Option<String> {
        if node.value.untyped().is_none() && text.contains("${") {
            let what = "`${` is not filled in here, because this is stored as it is written";
            self.problem_with(node, key, what, "write the value itself");
            return None;
        }
        Some(text)
    }

    /// A list of texts that are stored as they are written.
    pub(super) fn plain_texts(&self, key: &str) -> Option<Vec<String>> {
        let (node, items) = self.items(key)?;
        let Some(items) = items else { return node.value.untyped().map(split_list) };
        let plain = |item| self.raw_of(item, key).and_then(|it| self.without_names(item, key, it));
        items.iter().map(plain).collect()
    }

    /// A list of texts that mean themselves, `${` and all.
    pub(super) fn literal_texts(&self, key: &str) -> Option<Vec<String>> {
        let (node, items) = self.items(key)?;
        let Some(items) = items else { return node.value.untyped().map(split_list) };
        items.iter().map(|item| self.raw_of(item, key)).collect()
    }

    /// A list's items; none, where it is a variable's value.
    fn items(&self, key: &str) -> Option<(&'a Node, Option<&'a [Node]>)> {
        let node = self.node(key)?;
        if node.value.untyped().is_some() {
            return Some((node, None));
        }
        let Value::List(items) = &node.value else {
            self.wrong_type(node, key, "a list of texts", &format!("{key} = [\"…\"]"));
            return None;
        };
        Some((node, Some(items)))
    }

    /// A text that is what it is: no `${NAME}`, and no look at what it resembles.
    pub(super) fn literal(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        let text = node.value.written();
        if text.is_none() {
            self.wrong_type(node, key, "a text", &format!("{key} = \"…\""));
        }
        text.map(str::to_owned)
    }

    fn raw_of(&self, node: &Node, key: &str) -> Option<String> {
        let Some(text) = node.value.written() else {
            self.wrong_type(node, key, "a text", &format!("{key} = \"…\""));
            return None;
        };
        let typed = placeholder::typed(text);
        if node.value.untyped().is_none() && Redactor::default().redact(&typed) != typed {
            self.refuse_secret(node, key, "this looks like a key or a password");
            return None;
        }
        Some(text.to_owned())
    }

    fn resolve(&self, node: &Node, key: &str, text: &str) -> Option<String> {
        if self.names == Names::LeftAlone {
            return Some(text.to_owned());
        }
        match environment::resolve(text, self.reader.variables) {
            Ok(resolved) => Some(resolved),
            Err(unresolved) => {
                for reason in unresolved {
                    match reason {
                        Unfilled::NotSet(name) => self.problem_with(
                            node,
                            key,
                            format!("{name} is not set"),
                            format!(
                                "put the line {name}=… into {}, or set it in the environment",
                                self.reader.root.join(".env").display()
                            ),
                        ),
                        Unfilled::NotAName(text) => self.problem_with(
                            node,
                            key,
                            format!("`{text}` is not a variable"),
                            format!(
                                "write ${{NAME}} with letters, digits and underscores, or `${text}` \
                                 to keep the text as it is"
                            ),
                        ),
                    }
                }
                None
            }
        }
    }

    fn refuse_secret(&self, node: &Node, key: &str, what: &str) {
        let name = key.to_uppercase();
        self.problem_with(
            node,
            key,
            format!("{what}; secrets do not belong in TOML files"),
            format!("put it into .env and write {key} = \"${{{name}}}\" with its name there"),
        );
    }

    /// A secret: `key = "${NAME}"` or `key_file = "path"`; never a literal.
    pub(super) fn secret(&self, key: &str) -> Option<Secret> {
        let in_file = self.secret_file(&format!("{key}_file"), key);
        let node = self.node(key)?;
        if in_file.is_some() {
            self.problem(key, format!("both {key} and {key}_file are set"), "keep one of them");
        }
        self.secret_of(node, key)
            .or_else(|| self.lenient_placeholder(node))
            .map(|text| Secret::new(text.trim()))
    }

    /// In a file that is switched off, something must stand where the secret would.
    fn lenient_placeholder(&self, node: &Node) -> Option<String> {
        let is_text = matches!(node.value, Value::Text(_));
        (self.names == Names::LeftAlone && is_text).then(String::new)
    }

    fn secret_of(&self, node: &Node, key: &str) -> Option<String> {
        if let Some(value) = node.value.untyped() {
            return Some(value.to_owned());
        }
        let Some(text) = node.value.written() else {
            self.wrong_type(node, key, "a text", &format!("{key} = \"${{NAME}}\""));
            return None;
        };
        if text.trim().is_empty() {
            let instead = format!("write {key} = \"${{NAME}}\", with the secret as NAME=… in .env");
            self.problem_with(node, key, "this is empty", instead);
            return None;
        }
        if !placeholder::typed(text).trim().is_empty() {
            self.refuse_secret(node, key, "this is a secret");
            return None;
        }
        self.resolve(node, key, text)
    }

    fn secret_file(&self, key: &str, secret: &str) -> Option<Secret> {
        let path = self.path(key)?;
        if self.names == Names::LeftAlone {
            return Some(Secret::new(""));
        }
        match crate::regular_file::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                self.problem(
                    key,
                    format!("{} is empty", path.display()),
                    format!("write the {secret} into it, and nothing else"),
                );
                None
            }
            Ok(text) => Some(Secret::new(text.trim())),
            Err(error) => {
                self.problem(
                    key,
                    format!("{} can't be read: {error}", path.display()),
                    "name a file that the user who runs lookout may read",
                );
                None
            }
        }
    }

    /// The secret, from a file or a variable; `None` and no problem if neither is written.
    pub(super) fn secret_or_file(&self, key: &str) -> Option<Secret> {
        if self.has(key) {
            return self.secret(key);
        }
        self.known.borrow_mut().push(key.to_owned());
        self.secret_file(&format!("{key}_file"), key)
    }

    /// A list of secrets; a value that holds commas counts as several.
    pub(super) fn secrets(&self, key: &str) -> Vec<Secret> {
        let texts: Vec<String> = match self.node(key) {
            None => return Vec::new(),
            Some(Node { value: Value::List(items), .. }) => {
                items.iter().filter_map(|item| self.secret_of(item, key)).collect()
            }
            Some(node) => self.secret_of(node, key).into_iter().collect(),
        };
        texts.iter().flat_map(|text| split_list(text)).map(Secret::new).collect()
    }

    /// A path; relative ones count from the configuration's folder.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|text| self.reader.root.join(text))
    }

    /// A list of texts (from a variable: separated by commas).
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let (node, items) = self.items(key)?;
        let Some(items) = items else { return node.value.untyped().map(split_list) };
        items.iter().map(|item| self.text_of(item, key)).collect()
    }

    /// A duration above zero.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let node = self.node(key)?;
        let example = "a duration such as \"45m\", \"90s\" or \"1h30m\"";
        let Some(text) = node.value.written() else {
            self.wrong_type(node, key, "a duration in quotes", example);
            return None;
        };
        let what = match duration::parse(text.trim()).filter(|length| *length <= LONGEST) {
            Some(Duration::ZERO) => "this must be longer than zero".to_owned(),
            Some(length) => return Some(length),
            None => format!("\"{text}\" is not a duration"),
        };
        self.problem(key, what, format!("write {example}"));
        None
    }

    /// A size in bytes, above zero.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let node = self.node(key)?;
        let example = "a size such as \"256MiB\" or \"50MB\"";
        let Some(text) = node.value.written() else {
            self.wrong_type(node, key, "a size in quotes", example);
            return None;
        };
        let size = units::size(text.trim()).filter(|size| *size > 0);
        if size.is_none() {
            self.problem(key, format!("\"{text}\" is not a size"), format!("write {example}"));
        }
        size
    }

    /// A whole number within a range.
    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let number = if let Value::Integer(number) = &node.value {
            Some(*number)
        } else {
            node.value.untyped().and_then(|text| text.parse().ok())
        };
        match number {
            Some(number) if range.contains(&number) => T::try_from(number).ok(),
            Some(number) => {
                let what = format!("{number} is out of range");
                self.problem_with(node, key, what, format!("write {wanted}"));
                None
            }
            None => {
                self.wrong_type(node, key, &wanted, &format!("{key} = {}", range.start()));
                None
            }
        }
    }

    /// An amount of money or a price: a number that is not negative.
    pub(super) fn amount(&self, key: &str) -> Option<f64> {
        let node = self.node(key)?;
        #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52")]
        let number = if let Value::Integer(number) = &node.value {
            Some(*number as f64)
        } else if let Value::Float(number) = &node.value {
            Some(*number)
        } else {
            node.value.untyped().and_then(|text| text.parse().ok())
        };
        let amount = number.filter(|number| number.is_finite() && *number >= 0.0);
        if amount.is_none() {
            let instead = format!("write an amount in USD, for example {key} = 5.0");
            self.problem(key, "this must be a number, 0 or above", instead);
        }
        amount
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match (&node.value, node.value.untyped()) {
            (Value::Flag(flag), _) => Some(*flag),
            (_, Some(text @ ("true" | "false"))) => Some(text == "true"),
            (_, _) => {
                let example = format!("{key} = true or {key} = false");
                self.wrong_type(node, key, "true or false", &example);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.literal(key)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let meant = nearest(&text, choices.iter().map(|(word, _)| *word));
        let hint = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
        let instead = format!("write {}{hint}", words.join(" or "));
        self.problem(key, format!("\"{text}\" is not one of the choices"), instead);
        None
    }

    /// A section below this one; an empty one if nobody wrote it.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let path = self.path_of(key);
        let (table, place) = match self.node(key) {
            Some(Node { value: Value::Table(table), .. }) => {
                (table, self.table.entries[key].place.clone())
            }
            Some(node) => {
                self.wrong_type(node, key, "a section", &format!("[{path}]"));
                (&EMPTY, node.place.clone())
            }
            None => (&EMPTY, self.place.clone()),
        };
        self.below(table, path, place)
    }

    /// A list of sections: `[[key]]`.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let path = self.path_of(key);
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong_type(node, key, "a list of sections", &format!("[[{path}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Value::Table(table) = &item.value {
                let path = format!("{path}[{}]", index + 1);
                sections.push(self.below(table, path, item.place.clone()));
            } else {
                self.wrong_type(item, key, "a section", &format!("[[{path}]]"));
            }
        }
        sections
    }

    fn below(&self, table: &'a Table, path: String, place: Place) -> Section<'a> {
        let (reader, names) = (self.reader, self.names);
        Section { reader, table, path, place, names, known: RefCell::default() }
    }

    /// Names the keys that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (key, entry) in &self.table.entries {
            if known.iter().any(|name| name == key) {
                continue;
            }
            let instead = match nearest(key, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => {
                    let mut names = known.clone();
                    names.sort();
                    names.dedup();
                    format!("take it out; what can stand here: {}", names.join(", "))
                }
            };
            let name = entry.node.variable.clone().unwrap_or_else(|| self.path_of(key));
            self.reader.problem(entry.place.clone(), name, "there is no such setting", instead);
        }
    }
}

/// The parts between commas, trimmed, without empty ones.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
