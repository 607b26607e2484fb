// Package storm switches 10,000 new gateways on together, and sees whether all
// get in, and how late. The activation is internal/activation as it ships,
// through the AWS SDK; the account is internal/iotcore with the API quotas in
// front; the gateways follow the schedules of pkg/jitr. Time is virtual
// (testing/synctest), so twenty minutes take less than one.
//
// What stands between them is a model: the queue (messages come in no order,
// those that failed come back after the visibility timeout), the event source
// mapping (so many batches at once, each worked on by an instance with a
// memory of its own), and the time that a call takes.
package storm
