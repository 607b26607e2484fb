package main

import "time"

// arrival is the CONNECT of a device that reaches the server. A device has one
// at most on its way, so time and device order them, and a run is the same
// each time.
type arrival struct {
	at     time.Duration
	device int32
}

func (a arrival) before(b arrival) bool {
	return a.at < b.at || a.at == b.at && a.device < b.device
}

// queue is a binary heap of arrivals. container/heap does the same through
// interfaces, at three times the cost.
type queue []arrival

func (q *queue) push(a arrival) {
	h := append(*q, a)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !a.before(h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = a
	*q = h
}

// pop takes the earliest. The queue must not be empty.
func (q *queue) pop() arrival {
	h := *q
	first, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = last
	return first
}
