package iotcore

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/eclipse/paho.golang/packets"
)

// acknowledged publishes until the connection ends, and sends how many PUBACKs
// came to total. The first of them is told to begun.
func (d device) acknowledged(topic string, begun chan<- struct{}, total chan<- int) {
	tick := time.NewTicker(5 * time.Millisecond) // enough to be in the middle of it at any time
	defer tick.Stop()
	for n := 0; ; n++ {
		cp := packets.NewControlPacket(packets.PUBLISH)
		p := cp.Content.(*packets.Publish)
		p.Topic, p.QoS, p.PacketID, p.Payload = topic, 1, uint16(n%1000+1), []byte(strconv.Itoa(n))
		_, err := cp.WriteTo(d.conn)
		if err == nil {
			cp, err = packets.ReadPacket(d.conn)
		}
		if err != nil || cp.Type != packets.PUBACK {
			total <- n
			return
		}
		if n == 0 {
			close(begun)
		}
		<-tick.C
	}
}

// A message that got its PUBACK before the emulator stopped is in the rule's
// queue after the next start. A half request holds up the end of the API, so
// that there are seconds between the begin of the end and that of the
// connections.
func TestWhatWasAcknowledgedIsJudged(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	a := start(t, cfg).account("admin", "us-east-1")
	role := a.role(sqsActions)
	url, _ := a.queue("q", nil)
	a.rule("toqueue", &iottypes.TopicRulePayload{
		Sql: aws.String("SELECT * FROM 'a'"), Actions: []iottypes.Action{{Sqs: &iottypes.SqsAction{RoleArn: &role, QueueUrl: &url}}},
	})
	half, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.APIAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write([]byte("POST /topics/b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")); err != nil {
		t.Fatal(err)
	}
	begun, total := make(chan struct{}), make(chan int, 1)
	d := a.connect(a.accepted("gw-1", ""), "gw-1")
	go d.acknowledged("a", begun, total)
	select {
	case <-begun:
	case n := <-total:
		t.Fatalf("the connection ended after %d PUBACKs", n)
	}
	a.stop()
	want := <-total

	b := start(t, cfg).account("admin", "us-east-1")
	waiting, _, _ := strings.Cut(b.waiting(url), "+")
	// The last message can be there without its PUBACK.
	if got, err := strconv.Atoi(waiting); err != nil || got < want || got > want+1 {
		t.Errorf("%s messages in the queue of %d with a PUBACK, %v", waiting, want, err)
	}
}

// The end is an answer for those who wait for a message.
func TestEndOfALongPoll(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	url, _ := a.queue("q", nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := a.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20})
		ended <- err
	}()
	a.until("the emulator has the call", func() bool { return a.Calls()["sqs:ReceiveMessage"].Allowed == 1 })
	a.stop()
	if err := <-ended; err != nil {
		t.Errorf("the long poll ended with %v", err)
	}
}
