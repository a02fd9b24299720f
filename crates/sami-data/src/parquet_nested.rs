//! Where a value of a Parquet column belongs in its row, lists and objects within each other
//! included.
//!
//! A column stores its values in a row, each with two levels: how much of its path is there
//! (definition), and which list of the path goes on with it (repetition).

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

/// Groups within each other that are followed.
const MAX_DEPTH: usize = 32;

/// A column that is read, and the way to its values.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Its number among all columns.
    pub(crate) number: usize,
    steps: Vec<Step>,
}

/// A step on the way from a row to a value. `present` is the definition level from which on what it
/// leads to is there.
#[derive(Clone, Debug)]
enum Step {
    Field {
        name: String,
        present: i16,
    },
    /// An element of a list, which the repetition level `level` goes on with.
    Element {
        level: i16,
        present: i16,
    },
    /// What was reached may be null.
    Present {
        present: i16,
    },
}

/// The levels that go with a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    pub(crate) definition: i16,
    pub(crate) repetition: i16,
}

impl Leaf {
    /// The columns of text and of whole numbers, maps left out.
    pub(crate) fn all(schema: &Type) -> Vec<Self> {
        let mut walk = Walk { number: 0, found: Vec::new() };
        for field in schema.get_fields() {
            walk.field(field, &Way::default(), true);
        }
        walk.found
    }

    /// The names of its fields, for messages.
    pub(crate) fn name(&self) -> String {
        let name = |step: &Step| match step {
            Step::Field { name, .. } => Some(name.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(name).collect::<Vec<_>>().join(".")
    }

    /// Puts a value, or what is there of the way to it, into its row. `indexes` counts the elements
    /// of each list.
    pub(crate) fn put(&self, row: &mut Value, levels: Levels, indexes: &mut Vec<usize>, value: Value) {
        let mut place = row;
        for step in &self.steps {
            let present = match step {
                Step::Field { name, present } => {
                    let Some(fields) = object(place) else { return };
                    place = fields.entry(name.clone()).or_insert(Value::Null);
                    *present
                }
                Step::Element { level, present } => {
                    let Some(elements) = list(place) else { return };
                    if levels.definition < *present {
                        return;
                    }
                    let index = count(indexes, *level, levels.repetition);
                    if elements.len() <= index {
                        elements.resize(index + 1, Value::Null);
                    }
                    place = &mut elements[index];
                    *present
                }
                Step::Present { present } => *present,
            };
            if levels.definition < present {
                return;
            }
        }
        *place = value;
    }
}

/// The place's object, made where nothing is yet.
fn object(place: &mut Value) -> Option<&mut Map<String, Value>> {
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    place.as_object_mut()
}

fn list(place: &mut Value) -> Option<&mut Vec<Value>> {
    if place.is_null() {
        *place = Value::Array(Vec::new());
    }
    place.as_array_mut()
}

/// The index of the element that a value with this repetition level belongs to.
fn count(indexes: &mut Vec<usize>, level: i16, repetition: i16) -> usize {
    let list = usize::try_from(level).unwrap_or_default();
    if indexes.len() <= list {
        indexes.resize(list + 1, 0);
    }
    match repetition.cmp(&level) {
        // Another list begins.
        std::cmp::Ordering::Less => indexes[list] = 0,
        std::cmp::Ordering::Equal => indexes[list] += 1,
        // A list within this element goes on.
        std::cmp::Ordering::Greater => {}
    }
    indexes[list]
}

/// How one came to a node of the schema.
#[derive(Clone, Debug, Default)]
struct Way {
    steps: Vec<Step>,
    definition: i16,
    repetition: i16,
    depth: usize,
}

impl Way {
    fn then(&self, step: impl FnOnce(&Self) -> Step) -> Self {
        let mut way = self.clone();
        way.steps.push(step(&way));
        way
    }
}

struct Walk {
    number: usize,
    found: Vec<Leaf>,
}

impl Walk {
    /// A field of a group. Unless it is `read`, its columns are only counted.
    fn field(&mut self, node: &Type, way: &Way, read: bool) {
        let name = node.name().to_owned();
        let mut way = way.clone();
        match repetition(node) {
            Repetition::REPEATED => {
                let way = way.then(|way| Step::Field { name, present: way.definition });
                self.content(node, &element(&way), read);
            }
            kind => {
                way.definition += i16::from(kind == Repetition::OPTIONAL);
                self.content(node, &way.then(|way| Step::Field { name, present: way.definition }), read);
            }
        }
    }

    /// What a node holds, once the way has come to it.
    fn content(&mut self, node: &Type, way: &Way, read: bool) {
        if !node.is_group() {
            if read && is_read(node) {
                self.found.push(Leaf { number: self.number, steps: way.steps.clone() });
            }
            self.number += 1;
            return;
        }
        let way = Way { depth: way.depth + 1, ..way.clone() };
        let read = read && !is_map(node) && way.depth <= MAX_DEPTH;
        match node.get_fields() {
            [inner] if is_list(node) && repetition(inner) == Repetition::REPEATED => {
                self.elements(node.name(), inner, &element(&way), read);
            }
            fields => fields.iter().for_each(|field| self.field(field, &way, read)),
        }
    }

    /// The elements of a list: the only field of the repeated group, or in older files that group
    /// itself.
    fn elements(&mut self, list: &str, node: &Type, way: &Way, read: bool) {
        let itself = node.name() == "array" || node.name() == format!("{list}_tuple");
        match node.is_group().then(|| node.get_fields()) {
            Some([inner]) if !itself && repetition(inner) != Repetition::REPEATED => {
                let mut way = way.clone();
                way.definition += i16::from(repetition(inner) == Repetition::OPTIONAL);
                let way = way.then(|way| Step::Present { present: way.definition });
                self.content(inner, &way, read);
            }
            _ => self.content(node, way, read),
        }
    }
}

fn element(way: &Way) -> Way {
    let deeper = Way { definition: way.definition + 1, repetition: way.repetition + 1, ..way.clone() };
    deeper.then(|way| Step::Element { level: way.repetition, present: way.definition })
}

fn repetition(node: &Type) -> Repetition {
    let info = node.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn is_list(node: &Type) -> bool {
    let info = node.get_basic_info();
    matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST
}

fn is_map(node: &Type) -> bool {
    let info = node.get_basic_info();
    matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE)
}

/// Text or whole numbers.
fn is_read(node: &Type) -> bool {
    let info = node.get_basic_info();
    let (logical, converted) = (info.logical_type_ref(), info.converted_type());
    match node.get_physical_type() {
        Physical::BYTE_ARRAY => {
            matches!(logical, Some(LogicalType::String | LogicalType::Json | LogicalType::Enum))
                || matches!(converted, ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM)
        }
        Physical::INT32 | Physical::INT64 => {
            matches!(logical, None | Some(LogicalType::Integer { .. })) && converted != ConvertedType::DECIMAL
        }
        _ => false,
    }
}
