package activation

import "time"

// How the function is deployed. test/storm shows what the numbers do when
// 10,000 new gateways are switched on together.
//
// Each instance of a function has a memory of its own, so a duplicate that
// another instance would know costs a call. Rule → function directly is for
// small fleets: an instance works on one certificate at a time there. Rule →
// queue → function is for power-ons: one invocation has many certificates,
// and works on them together. An event source mapping takes no account of
// reserved concurrency (AWS re:Post, "Lambda SQS scaling"), so its
// MaximumConcurrency bounds the instances, and 2 is the least it takes.
const (
	// Timeout is the function's.
	Timeout = 60 * time.Second
	// MemoryMB is the function's; Lambda gives CPU by it.
	MemoryMB = 256

	// DirectConcurrency is the reserved concurrency of a function that rules
	// invoke. An account with a small quota of its own cannot reserve any;
	// deploy it without, then.
	DirectConcurrency = 5

	// QueueBatchSize is the event source mapping's BatchSize: what an instance
	// can do within Timeout with half of the quota, so that nothing has to
	// wait for QueueVisibilityTimeout.
	QueueBatchSize = 200
	// QueueBatchWindow is its MaximumBatchingWindowInSeconds, which a batch of
	// more than 10 needs: the most that a single gateway waits for it.
	QueueBatchWindow = time.Second
	// QueueConcurrency is its ScalingConfig.MaximumConcurrency.
	QueueConcurrency = 2
	// QueueVisibilityTimeout is the queue's: six times Timeout, as AWS wants
	// it. It is also the wait of a message that failed or was postponed.
	QueueVisibilityTimeout = 6 * Timeout
	// QueueMaxReceives is maxReceiveCount of the redrive policy. A message
	// that fails comes back every QueueVisibilityTimeout: five hours in which
	// somebody can mend what is wrong before it goes to the dead letters.
	QueueMaxReceives = 50
)
