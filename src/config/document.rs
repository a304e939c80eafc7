//! A TOML file as a tree in which every value knows its place, with the overrides of the
//! environment laid over it.
//!
//! What the values mean is `section.rs`'s and the readers' business.
//! Invariant: a tree is only made of a file without syntax errors; a broken file gives problems.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The variable that set it, if none of the files did.
    pub(super) variable: Option<String>,
}

/// What can stand in a file.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    /// Nothing we read is a date; kept so that the type can be named.
    Date,
    List(Vec<Node>),
    Table(Table),
    /// From a variable: becomes whatever type is asked for.
    Untyped(String),
}

impl Value {
    /// What was written as text, be it in quotes or in a variable.
    pub(super) fn written(&self) -> Option<&str> {
        if let Self::Text(text) | Self::Untyped(text) = self { Some(text) } else { None }
    }

    /// What a variable says, whatever type it is meant to have.
    pub(super) fn untyped(&self) -> Option<&str> {
        if let Self::Untyped(text) = self { Some(text.trim()) } else { None }
    }

    /// As a person calls it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Untyped(_) => "a value from the environment",
        }
    }
}

/// Keys and values of one section.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<String, Entry>,
}

/// One key of a section.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the key stands.
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Reads one file; `file` is its name as a person would say it.
pub(super) fn parse(file: &str, text: &str) -> Result<Table, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines { file, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.table(table.get_ref()));
    }
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem {
            place: error.span().map_or_else(|| Place::file(file), |span| lines.place(span.start)),
            key: String::new(),
            what: format!("this is not valid TOML: {}", error.message().replace('\n', ", ")),
            instead: "write `key = \"text\"`, `key = 5`, `key = true`, `key = [\"a\", \"b\"]` or \
                      `[section]`"
                .to_owned(),
        })
        .collect();
    problems.sort();
    // One slip makes the parser stumble several times over the same line.
    problems.dedup_by(|later, earlier| later.place == earlier.place);
    Err(problems)
}

/// Turns byte offsets into lines.
struct Lines<'a> {
    file: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let n_breaks = before.iter().filter(|byte| **byte == b'\n').count();
        Place { file: self.file.to_owned(), line: Some(n_breaks + 1) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.get_ref().to_string(), Entry { place, node: self.node(value) })
            })
            .collect();
        Table { entries }
    }

    fn node(&self, spanned: &toml::Spanned<DeValue<'_>>) -> Node {
        let value = match spanned.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                // Too large for 64 bits is too large for every setting: any range refuses it.
                .map_or(Value::Integer(i64::MAX), Value::Integer),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, place: self.place(spanned.span().start), variable: None }
    }
}

/// Lays `LOOKOUT__SECTION__KEY` over the tree. What does not exist becomes an unknown key, which
/// the reader of its section then names.
pub(super) fn overlay(
    table: &mut Table,
    variable: &str,
    value: &str,
    place: &Place,
) -> Result<(), Problem> {
    let path = variable.strip_prefix("LOOKOUT__").unwrap_or(variable).to_lowercase();
    let problem = |what: &str| Problem {
        place: place.clone(),
        key: variable.to_owned(),
        what: what.to_owned(),
        instead: "write LOOKOUT__SECTION__KEY, for example LOOKOUT__SERVICE__BIND=127.0.0.1:8720"
            .to_owned(),
    };
    let (sections, key) = match path.rsplit_once("__") {
        Some((sections, key)) if !key.is_empty() => (sections, key),
        _ => return Err(problem("this names no setting")),
    };
    let mut current = table;
    for section in sections.split("__") {
        let entry = current.entries.entry(section.to_owned()).or_insert_with(|| Entry {
            place: place.clone(),
            node: Node {
                value: Value::Table(Table::default()),
                place: place.clone(),
                variable: Some(variable.to_owned()),
            },
        });
        let Value::Table(inner) = &mut entry.node.value else {
            return Err(problem("a variable can't reach into a list or a single value"));
        };
        current = inner;
    }
    let node = Node {
        value: Value::Untyped(value.to_owned()),
        place: place.clone(),
        variable: Some(variable.to_owned()),
    };
    current.entries.insert(key.to_owned(), Entry { place: place.clone(), node });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let table = parse("x.toml", "a = 1\n\n[b]\nc = [\n  \"d\",\n  \"e\",\n]\n").unwrap();
        assert_eq!(table.entries["a"].place.line, Some(1));
        let Value::Table(b) = &table.entries["b"].node.value else { panic!() };
        let Value::List(items) = &b.entries["c"].node.value else { panic!() };
        assert_eq!(items[1].place, Place { file: "x.toml".into(), line: Some(6) });
    }

    #[test]
    fn a_broken_file_tells_all_its_broken_lines() {
        let problems = parse("x.toml", "a = \nb = 2\nc = [1, 2\nd d = 1\n").unwrap_err();
        assert!(problems.len() > 1, "{problems:?}");
        assert_eq!(problems[0].place.line, Some(1));
    }

    #[test]
    fn numbers_of_every_form_are_read() {
        let table =
            parse("x", "a = 0x10\nb = 1_000\nc = -5\nd = 2.5\ne = 99999999999999999999").unwrap();
        for (key, expected) in [("a", 16), ("b", 1000), ("c", -5), ("e", i64::MAX)] {
            let Value::Integer(number) = table.entries[key].node.value else { panic!("{key}") };
            assert_eq!(number, expected);
        }
        let Value::Float(d) = table.entries["d"].node.value else { panic!() };
        assert!((d - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_variable_overrides_the_file_and_makes_what_is_missing() {
        let mut table = parse("x", "[service]\nbind = \"a\"").unwrap();
        let place = Place::environment();
        overlay(&mut table, "LOOKOUT__SERVICE__BIND", "b", &place).unwrap();
        overlay(&mut table, "LOOKOUT__RECORDS__COLUMNS__ID", "uuid", &place).unwrap();
        assert!(overlay(&mut table, "LOOKOUT__BIND", "b", &place).is_err());
        assert!(overlay(&mut table, "LOOKOUT__SERVICE__BIND__PORT", "b", &place).is_err());
        let Value::Table(service) = &table.entries["service"].node.value else { panic!() };
        assert!(matches!(&service.entries["bind"].node.value, Value::Untyped(v) if v == "b"));
        assert!(table.entries.contains_key("records"));
    }
}
