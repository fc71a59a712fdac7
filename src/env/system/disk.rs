//! The file system of the operating system, behind [`Disk`](crate::env::Disk).
