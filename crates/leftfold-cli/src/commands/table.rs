//! `leftfold import` of a table: rows of CSV, or of a query to a database of SQLite, become events.

use std::path::Path;

use clap::Args;
use leftfold::store::{
    Append, CommandId, CommandRecord, Digest, EventType, NewEvent, Store, StreamName, Tag, Tags,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::failure::CliFailure;
use crate::pipeline::AppendPipeline;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, counted};

/// Scope of the ids of commands that come from rows.
const SCOPE: &str = "leftfold import";

/// Mapping of the rows of a table to events.
#[derive(Clone, Debug, Args)]
pub(crate) struct TableArguments {
    /// The file is a table in CSV, with names of columns in its first line
    #[arg(long, requires = "type", conflicts_with = "query")]
    csv: bool,
    /// The file is a database of SQLite, and these are the rows; they need an order that stays
    #[arg(long, value_name = "SQL", requires = "type")]
    query: Option<String>,
    /// Type of a row's event, with columns in braces: shop.{kind}
    #[arg(id = "type", long = "type", value_name = "TEMPLATE")]
    event_type: Option<String>,
    /// Stream of a row's event: order-{id}
    #[arg(long, value_name = "TEMPLATE", requires = "type")]
    stream: Option<String>,
    /// Tags of a row's event: customer:{customer}
    #[arg(long = "tag", value_name = "TEMPLATE", requires = "type")]
    tags: Vec<String>,
    /// Takes texts of CSV that are numbers, true or false as such, and empty ones as null
    #[arg(long, requires = "csv")]
    typed: bool,
    /// Name of the table: of a row of the same table and number an event is made once
    #[arg(long, value_name = "NAME", requires = "type")]
    name: Option<String>,
}

/// A text with columns in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    /// A column, by its place.
    Column(usize),
}

impl Template {
    fn parse(text: &str, columns: &[String]) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) =
                behind.split_once('}').ok_or_else(|| format!("a brace is open in {text:?}"))?;
            let column = columns.iter().position(|column| column == name).ok_or_else(|| {
                format!("there is no column {name:?}; there are {}", columns.join(", "))
            })?;
            parts.extend([TemplatePart::Text(before.to_owned()), TemplatePart::Column(column)]);
            rest = after;
        }
        parts.push(TemplatePart::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    fn filled(&self, row: &[Value]) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(part) => text.push_str(part),
                TemplatePart::Column(at) => match &row[*at] {
                    Value::String(value) => text.push_str(value),
                    Value::Null => {}
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        text
    }
}

/// The mapping, for the columns that there are.
#[derive(Debug)]
struct Mapping {
    columns: Vec<String>,
    event_type: Template,
    stream: Option<Template>,
    tags: Vec<Template>,
    name: String,
}

impl Mapping {
    fn of(
        arguments: &TableArguments,
        file: &Path,
        columns: Vec<String>,
    ) -> Result<Self, CliFailure> {
        let template = |text: &String| Template::parse(text, &columns).map_err(CliFailure::Usage);
        let event_type = arguments.event_type.as_ref().map(&template).transpose()?;
        let missing = || CliFailure::Usage("give the events a type by --type".to_owned());
        let stream = arguments.stream.as_ref().map(&template).transpose()?;
        let tags = arguments.tags.iter().map(template).collect::<Result<_, _>>()?;
        let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let name = arguments.name.clone().unwrap_or(file);
        Ok(Self { event_type: event_type.ok_or_else(missing)?, stream, tags, name, columns })
    }

    /// Makes the append of a row. Again it is the same, and takes effect once.
    fn append(&self, number: u64, row: &[Value]) -> Result<Append, String> {
        let said = |error: leftfold::store::Invalid| error.to_string();
        // In the order of the columns, as whoever reads it later expects.
        let members = self.columns.iter().zip(row);
        let members: Vec<String> =
            members.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        let data = format!("{{{}}}", members.join(","));
        let event_type = EventType::new(self.event_type.filled(row)).map_err(said)?;
        let mut event = NewEvent::new(event_type, data.clone());
        let stream = self.stream.as_ref().map(|stream| StreamName::new(stream.filled(row)));
        event.stream = stream.transpose().map_err(said)?;
        let mut tags = Tags::none();
        for tag in &self.tags {
            tags.insert(Tag::new(tag.filled(row)).map_err(said)?);
        }
        let command = CommandRecord {
            id: CommandId::new(SCOPE, &format!("{} {number}", self.name)),
            digest: Digest::of(data.as_bytes()),
            answer: "".into(),
        };
        let append = Append { command: Some(command), ..Append::of(vec![event.tagged(tags)]) };
        append.validate().map_err(said)?;
        Ok(append)
    }
}

impl TableArguments {
    /// Tells whether the file is a table.
    pub(crate) fn is_meant(&self) -> bool {
        self.csv || self.query.is_some()
    }
}

/// Appends an event for each row of the table that has none yet.
pub(crate) async fn import(
    store: &Store,
    arguments: &TableArguments,
    file: &Path,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let mut queue = AppendPipeline::into(store, "row");
    match &arguments.query {
        Some(query) => append_query(&mut queue, arguments, file, query).await?,
        None => append_csv(&mut queue, arguments, file).await?,
    }
    let (rows, before) = (queue.done, queue.repeated);
    if screen.is_json() {
        return screen.object(&json!({ "rows": rows, "repeated": before }));
    }
    let repeated = match before {
        0 => String::new(),
        before => format!(" ({} of them before)", counted(before, "row")),
    };
    let said = format!("{} imported{repeated}", counted(rows, "row"));
    screen.line(screen.tint(Tint::Green, &said))
}

async fn append_csv(
    queue: &mut AppendPipeline<'_>,
    arguments: &TableArguments,
    file: &Path,
) -> Result<(), CliFailure> {
    let said = |error: csv::Error| CliFailure::Usage(format!("{}: {error}", file.display()));
    let mut reader = csv::Reader::from_path(file).map_err(said)?;
    let columns = reader.headers().map_err(said)?.iter().map(ToOwned::to_owned).collect();
    let mapping = Mapping::of(arguments, file, columns)?;
    let mut rows = RowLoop::of(&mapping);
    for record in reader.records() {
        let record = record.map_err(said)?;
        let value = |text: &str| match arguments.typed {
            true => typed(text),
            false => Value::String(text.to_owned()),
        };
        rows.take(queue, record.iter().map(value).collect()).await?;
    }
    queue.finish().await
}

async fn append_query(
    queue: &mut AppendPipeline<'_>,
    arguments: &TableArguments,
    file: &Path,
    query: &str,
) -> Result<(), CliFailure> {
    let said = |error: rusqlite::Error| CliFailure::Usage(format!("{}: {error}", file.display()));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(file, flags).map_err(said)?;
    let mut statement = connection.prepare(query).map_err(said)?;
    let columns: Vec<String> = statement.column_names().map(Into::into).collect();
    let mapping = Mapping::of(arguments, file, columns)?;
    let mut loops = RowLoop::of(&mapping);
    let mut rows = statement.query([]).map_err(said)?;
    while let Some(row) = rows.next().map_err(said)? {
        let mut values = Vec::with_capacity(mapping.columns.len());
        for at in 0..mapping.columns.len() {
            values.push(match row.get_ref(at).map_err(said)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => number.into(),
                ValueRef::Real(number) => number.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                ValueRef::Blob(_) => {
                    let name = &mapping.columns[at];
                    let hint = "select hex() of it, or leave it out";
                    return Err(CliFailure::Usage(format!("column {name} has bytes; {hint}")));
                }
            });
        }
        loops.take(queue, values).await?;
    }
    queue.finish().await
}

/// Loop over rows of any kind: their numbers, from 1, progress, and interrupting.
struct RowLoop<'a> {
    mapping: &'a Mapping,
    number: u64,
    progress: ProgressLine,
    interrupt: Interrupt,
}

impl<'a> RowLoop<'a> {
    fn of(mapping: &'a Mapping) -> Self {
        let progress = ProgressLine::of("importing", Measure::Things("rows"), 0);
        Self { mapping, number: 0, progress, interrupt: Interrupt::listen() }
    }

    async fn take(
        &mut self,
        queue: &mut AppendPipeline<'_>,
        row: Vec<Value>,
    ) -> Result<(), CliFailure> {
        self.interrupt.check(Some("the same call goes on"))?;
        self.number += 1;
        self.progress.at(queue.done);
        match self.mapping.append(self.number, &row) {
            Ok(append) => queue.push(self.number, append).await,
            Err(error) => {
                queue.finish().await?;
                Err(CliFailure::Usage(format!("row {}: {error}", self.number)))
            }
        }
    }
}

/// A text as the value that it says: a number of JSON, true, false, null if it is empty.
fn typed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ if text.is_empty() => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_columns_and_names_those_that_are_missing() {
        let columns = ["id".to_owned(), "kind".to_owned()];
        let row = [json!(7), json!("Sold")];
        let filled = |text: &str| Template::parse(text, &columns).map(|of| of.filled(&row));
        assert_eq!(filled("shop.{kind}").unwrap(), "shop.Sold");
        assert_eq!(filled("{id}-{kind}x").unwrap(), "7-Soldx");
        assert_eq!(filled("plain").unwrap(), "plain");
        assert!(filled("{nothing}").unwrap_err().contains("id, kind"));
        assert!(filled("{id").unwrap_err().contains("open"));
    }

    #[test]
    fn texts_are_taken_as_the_values_that_they_say() {
        let all = ["7", "-1.5", "true", "", "007", "x", "null", "[1]"].map(typed);
        let values = json!([7, -1.5, true, null, "007", "x", "null", "[1]"]);
        assert_eq!(json!(all), values);
    }
}
