//! Which members of an answer a caller asks for (groups-and-messages.md section 3.2).

use std::collections::BTreeSet;

use crate::wire::fields::{FieldError, Names};
use crate::wire::json::Object;

/// The names of one filter array. Names that mean nothing here ask for nothing.
#[derive(Debug)]
pub(super) enum Filter<'a> {
    /// There is no such array, and then everything is answered.
    Everything,
    /// What the array names.
    Only(BTreeSet<&'a str>),
}

impl<'a> Filter<'a> {
    /// The filter of this name, if there is one.
    pub(super) fn parse(filters: Object<'a>, name: &'static str) -> Result<Option<Self>, FieldError> {
        let Some(names) = filters.optional_array(name)? else { return Ok(None) };
        Ok(Some(Self::Only(names.strings().collect::<Result<_, _>>()?)))
    }

    /// The value, if it is asked for under any of its names.
    pub(super) fn pick<T>(&self, names: impl Names, value: T) -> Option<T> {
        names.names().iter().any(|name| self.names(name)).then_some(value)
    }

    /// Is this asked for?
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(names) => names.contains(name),
        }
    }
}
