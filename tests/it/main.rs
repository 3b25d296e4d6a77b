//! Integration tests: the library through its public interface, against real servers where there are any.

mod kafka_source;
