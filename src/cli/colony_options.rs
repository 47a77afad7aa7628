//! The options by which every client finds the colony. argh cannot include the options of one struct in another, so a
//! macro adds them.

/// Declares a command's `Args`: first its own options, then those by which it finds the colony, and for a `program`
/// `--version`. `Args::scope` is what they say.
macro_rules! with_colony_options {
    ($(#[$attribute:meta])* command struct Args { $($fields:tt)* }) => {
        with_colony_options! { [$(#[$attribute])*] [$($fields)*] [] }
    };
    ($(#[$attribute:meta])* program struct Args { $($fields:tt)* }) => {
        with_colony_options! {
            [$(#[$attribute])*] [$($fields)*]
            [
                /// print the version
                #[argh(switch, short = 'V')]
                #[allow(dead_code)] // Handled before all others; here for --help.
                version: bool,
            ]
        }
    };
    ([$(#[$attribute:meta])*] [$($fields:tt)*] [$($last:tt)*]) => {
        #[derive(argh::FromArgs, argh::ArgsInfo)]
        #[argh(help_triggers("-h", "--help"))]
        $(#[$attribute])*
        pub(super) struct Args {
            $($fields)*
            /// contact this cell instead of searching the network; can be repeated
            #[argh(option, arg_name = "url", from_str_fn(crate::cli::values::cell_url))]
            node: Vec<String>,
            /// UDP port for discovery (default 5000)
            #[argh(option, arg_name = "port", from_str_fn(crate::cli::values::udp_port))]
            udp_port: Option<u16>,
            /// search for cells on this machine only
            #[argh(switch)]
            loopback: bool,
            $($last)*
        }

        impl Args {
            /// Where to search for the colony.
            fn scope(
                &self,
                config: &crate::cli::client_config::ClientConfig,
            ) -> Result<crate::client::ColonyScope, crate::cli::client_config::ClientConfigError> {
                config.scope(&self.node, self.udp_port, self.loopback)
            }
        }
    };
}
