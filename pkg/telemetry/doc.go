// Package telemetry is what the gateway measures of itself, and how often.
//
// A Source measures; the Reporter owns the timer, builds the message of each
// measurement and hands it to a Publisher. The package promises that a value
// which the gateway does not have is absent and not zero, that no step of the
// wall clock moves the timer, and that what could not be measured or handed
// over is told.
package telemetry
