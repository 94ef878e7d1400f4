"""MLPerf LoadGen: the system under test that it drives, its process, and what its logs say."""
