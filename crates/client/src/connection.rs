//! One ordered Kafka connection.
