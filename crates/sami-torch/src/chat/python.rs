//! What chat templates expect of Python's standard library: `json.dumps` and `strftime`.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// `json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)`.
pub(super) fn dumps(value: &Value, indent: Option<usize>, sort_keys: bool) -> Result<String, Error> {
    let mut out = String::new();
    Writer { indent, sort_keys }.write(&mut out, value, 0)?;
    Ok(out)
}

struct Writer {
    indent: Option<usize>,
    sort_keys: bool,
}

impl Writer {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => out.push_str(&quoted(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.items(out, ['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    items.push((Some(quoted(&key)), value.get_item(&key)?));
                }
                if self.sort_keys {
                    items.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.items(out, ['{', '}'], items, depth)?;
            }
            other => {
                let detail = format!("{other} is not to be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, detail));
            }
        }
        Ok(())
    }

    fn items(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        out.push(open);
        let empty = items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(if self.indent.is_some() { "," } else { ", " });
            }
            self.new_line(out, depth + 1);
            if let Some(key) = key {
                out.push_str(&key);
                out.push_str(": ");
            }
            self.write(out, &item, depth + 1)?;
        }
        if !empty {
            self.new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }
}

fn quoted(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    serde_json::Value::from(text).to_string()
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A second of the calendar, UTC: the same text on every machine, whatever its time zone.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    seconds: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs() }
    }

    /// (year, month from 1, day from 1), proleptic Gregorian.
    fn date(self) -> (u64, usize, u64) {
        // Years begin in March here, so that the leap day is the last; 719,468 days lie between 0000-03-01 and 1970.
        let days = self.seconds / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        (era * 400 + year + next, month as usize, day)
    }

    /// `strftime` in the C locale, or the directive that it does not know.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let (year, month, day) = self.date();
        let (hour, minute, second) = (self.seconds / 3_600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        let weekday = DAYS[((self.seconds / 86_400 + 3) % 7) as usize];
        let month_name = MONTHS[month - 1];
        let mut out = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let mut directive: String = characters.next().into_iter().collect();
            if directive == "-" {
                directive.extend(characters.next());
            }
            out.push_str(&match directive.as_str() {
                "Y" => year.to_string(),
                "y" => format!("{:02}", year % 100),
                "m" => format!("{month:02}"),
                "-m" => month.to_string(),
                "B" => month_name.to_owned(),
                "b" => month_name[..3].to_owned(),
                "d" => format!("{day:02}"),
                "-d" => day.to_string(),
                "A" => weekday.to_owned(),
                "a" => weekday[..3].to_owned(),
                "H" => format!("{hour:02}"),
                "M" => format!("{minute:02}"),
                "S" => format!("{second:02}"),
                "%" => "%".to_owned(),
                _ => return Err(directive),
            });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        let text =
            |seconds| Moment { seconds }.format("%a %A %d %-d %b %B %m %-m %y %Y %H:%M:%S %%").unwrap();
        assert_eq!(text(0), "Thu Thursday 01 1 Jan January 01 1 70 1970 00:00:00 %");
        // date -u -d @951827696
        assert_eq!(text(951_827_696), "Tue Tuesday 29 29 Feb February 02 2 00 2000 12:34:56 %");
        assert_eq!(text(1_798_761_599), "Thu Thursday 31 31 Dec December 12 12 26 2026 23:59:59 %");
        assert_eq!(Moment { seconds: 0 }.format("%d %Q").unwrap_err(), "Q");
        assert_eq!(Moment { seconds: 0 }.format("%").unwrap_err(), "");
    }

    #[test]
    fn json_is_pythons() {
        assert_eq!(dumps(&Value::from(vec![true, false]), None, false).unwrap(), "[true, false]");
        let inner = Value::from_pairs([("z", Value::from("é\n\"")), ("a", Value::from(vec![1, 2]))]);
        let value =
            Value::from_pairs([("empty", Value::from(Vec::<i32>::new())), ("b", inner), ("n", ().into())]);
        assert_eq!(
            dumps(&value, None, false).unwrap(),
            r#"{"empty": [], "b": {"z": "é\n\"", "a": [1, 2]}, "n": null}"#
        );
        assert_eq!(
            dumps(&value, Some(2), true).unwrap(),
            "{\n  \"b\": {\n    \"a\": [\n      1,\n      2\n    ],\n    \"z\": \"é\\n\\\"\"\n  },\n  \"empty\": [],\n  \"n\": null\n}"
        );
    }
}
