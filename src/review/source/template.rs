//! Names of images: a template with `{column}`s, filled from a record.
//!
//! Invariant: a row's values fill places and can't move them: each is encoded whole, and none can
//! be a step up (`..`).

use crate::review::record::Record;

/// A template that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub(super) String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

/// How values are put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are: keys of the S3 API, which are encoded later, byte for byte.
    Plain,
    /// Everything but letters, digits and `-._~`: parts of an address.
    Percent,
}

/// Why a record gives no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// The row has nothing in this column.
    Lacks(String),
    /// The value can't be part of an address.
    Unusable(String),
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            let Some((column, behind)) = after[1..].split_once('}') else {
                return Err(TemplateError(format!("\"{text}\" has a {{ without a }}")));
            };
            if column.is_empty() || column.contains('{') {
                return Err(TemplateError(format!(
                    "\"{text}\" has braces without a column's name"
                )));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Column(column.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    pub(super) fn fill(&self, record: &Record, encoding: Encoding) -> Result<String, Unnamed> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Column(column) => {
                    let value = value(record, column)
                        .filter(|value| !value.is_empty())
                        .ok_or_else(|| Unnamed::Lacks(column.clone()))?;
                    if matches!(value.as_str(), "." | "..") || value.chars().any(char::is_control) {
                        return Err(Unnamed::Unusable(column.clone()));
                    }
                    match encoding {
                        Encoding::Plain => out.push_str(&value),
                        Encoding::Percent => percent(&value, &mut out),
                    }
                }
            }
        }
        Ok(out)
    }
}

/// The standard columns (docs/legacy-service.md, "Table") by their standard names, all others by
/// the table's.
fn value(record: &Record, column: &str) -> Option<String> {
    match column {
        "id" => Some(record.id.0.clone()),
        "job_id" => record.job_id.clone(),
        "image_index" => record.image_index.clone(),
        other => record.columns.get(other).cloned(),
    }
}

fn percent(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::review::record::RecordId;

    /// A record with these two parts.
    pub(in crate::review::source) fn record(job_id: Option<&str>, index: Option<i64>) -> Record {
        Record {
            id: RecordId("7".into()),
            job_id: job_id.map(str::to_owned),
            image_index: index.map(|index| index.to_string()),
            actual_image_url: None,
            status: "downloaded".into(),
            created_at: None,
            columns: [("folder".to_owned(), "süd".to_owned())].into(),
        }
    }

    fn filled(template: &str, record: &Record) -> Result<String, Unnamed> {
        Template::parse(template).unwrap().fill(record, Encoding::Percent)
    }

    #[test]
    fn values_are_encoded_whole() {
        let url = "https://b.example/{folder}/{job_id}__{image_index}.jpg?x={id}";
        assert_eq!(
            filled(url, &record(Some("a/b+c d?#&%"), Some(0))).unwrap(),
            "https://b.example/s%C3%BCd/a%2Fb%2Bc%20d%3F%23%26%25__0.jpg?x=7"
        );
    }

    #[test]
    fn an_index_names_the_image_that_it_names_in_the_table() {
        for (index, expected) in
            [("003", "a__003"), ("+3", "a__%2B3"), (" 3", "a__%203"), ("3a", "a__3a")]
        {
            let record = Record { image_index: Some(index.into()), ..record(Some("a"), None) };
            assert_eq!(filled("{job_id}__{image_index}", &record).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_row_without_a_part_or_with_a_step_up_gives_no_name() {
        let lacks = |column: &str| Err(Unnamed::Lacks(column.to_owned()));
        assert_eq!(filled("{job_id}", &record(None, None)), lacks("job_id"));
        assert_eq!(filled("{job_id}", &record(Some(""), None)), lacks("job_id"));
        assert_eq!(filled("{nothing}", &record(None, None)), lacks("nothing"));
        for value in ["..", ".", "a\nb"] {
            let unusable = Err(Unnamed::Unusable("job_id".to_owned()));
            assert_eq!(filled("{job_id}/x", &record(Some(value), None)), unusable);
        }
    }

    #[test]
    fn a_template_with_a_loose_brace_is_refused() {
        for template in ["https://x/{job_id", "https://x/{}", "https://x/{a{b}}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
