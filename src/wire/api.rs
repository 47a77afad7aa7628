//! The names of [`crate::wire`] under the path that they had first.

pub use crate::id::{DEFAULT_COPIES, MAX_HOLDERS};
pub use crate::wire::holder_hints::*;
pub use crate::wire::id_lists::*;
pub use crate::wire::peers::*;
pub use crate::wire::routes::*;
pub use crate::wire::status::*;
