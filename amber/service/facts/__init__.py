"""What is known, and what people do: functions that routes and pages call alike."""
