//! One thing in the source that could not be backed up as it should: carried in the report, never an `Err`.

use serde::Serialize;

/// What was being done when it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ProblemOp {
    /// Reading a name's metadata.
    Stat = 1,
    /// Opening a file or directory.
    Open = 2,
    /// Reading a file's bytes or a link's target.
    Read = 3,
    /// Listing a directory.
    List = 4,
    /// The file changed while it was read, three times; its last reading was stored as inconsistent.
    Changed = 5,
    /// A root or mount point is empty and on its parent's file system; its previous versions were kept.
    EmptyMount = 6,
    /// Writing a restored file or its metadata.
    Write = 7,
    /// Stored bytes that are damaged or on a volume that is not here.
    Data = 8,
    /// Reading extended attributes or flags; the file is stored without them, or with those of the version before.
    Attrs = 9,
    /// The bytes of a file are others although nothing of it says that it changed; both versions are kept.
    Rot = 10,
}

/// One source file that was skipped or stored as inconsistent, or one target that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path inside the source.
    pub path: Vec<u8>,
    /// What was being done.
    pub op: ProblemOp,
    /// The system's error number, where there is one.
    pub errno: Option<i32>,
    /// The sentence for people, without the path.
    pub text: String,
}

impl Problem {
    /// A problem from a system error.
    pub fn from_io(path: &[u8], op: ProblemOp, error: &std::io::Error) -> Self {
        Self { path: path.to_vec(), op, errno: error.raw_os_error(), text: error.to_string() }
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("Problem", 4)?;
        fields.serialize_field("path", &super::path::show(&self.path))?;
        fields.serialize_field("op", &self.op)?;
        fields.serialize_field("errno", &self.errno)?;
        fields.serialize_field("error", &self.text)?;
        fields.end()
    }
}
