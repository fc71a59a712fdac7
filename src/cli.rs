//! One file per subcommand: argv in, exit code out.
