//! One replica of one partition: leader, follower or offline.
