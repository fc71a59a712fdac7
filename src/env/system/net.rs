//! Name resolution and TCP as the operating system and DNS give them.
