// Package shadow keeps the classic device shadow of AWS IoT Core: it reports
// what the gateway does, and does what the cloud desires.
//
// The document is {"telemetry":{"interval":"60s"}}, in reported and desired
// alike. The package promises that what it reports is what is in effect; that
// a desired value which cannot be is never applied, and told once; that a
// message which arrives late undoes nothing newer; and that a policy which
// denies subscribing costs nothing but the desired values.
//
// Shadow state is never queued: after each connect the newest report is sent,
// and the desired values are asked for.
package shadow
