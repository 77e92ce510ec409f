//! `minisr-broker`: arguments and log output; everything else is in [`minisr_broker::broker`].

fn main() {
    print!("{}", minisr_broker::config::Settings::describe());
}
