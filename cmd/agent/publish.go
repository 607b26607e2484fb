package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/local"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

func newPublish(o *options) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "publish TOPIC [MESSAGE|-]",
		Short: "Hand a message to the running agent, and wait until it is safe",
		Long: `Hand a message to the running agent. The exit code is 0 when the message is in
the cloud or on the disk, and 1 when it was refused or is not safe in time; it
may still be sent then.

TOPIC is telemetry/ and one or more names, such as telemetry/pump/1; where that
goes in the cloud is local.topic in agent.toml. Without MESSAGE, or with -, the
message is what comes on standard input. It is sent byte for byte, at QoS 1.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, err := o.load(cmd, usual(cmd))
			if err != nil {
				return err
			}
			payload, err := messageOf(cmd.InOrStdin(), args[1:])
			if err != nil {
				return fmt.Errorf("cannot publish %s: %w", args[0], err)
			}
			if err := publish(cmd.Context(), s, args[0], payload, timeout); err != nil {
				return fmt.Errorf("cannot publish %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait until the message is safe")
	return cmd
}

// messageOf is the payload: the argument, or standard input.
func messageOf(in io.Reader, args []string) ([]byte, error) {
	if len(args) == 1 && args[0] != "-" {
		return []byte(args[0]), nil
	}
	data, err := io.ReadAll(io.LimitReader(in, local.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return data, nil
}

func publish(ctx context.Context, s *settings.Settings, topic string, payload []byte, timeout time.Duration) error {
	if len(payload) > local.MaxPayload {
		return fmt.Errorf("the message has more than %d bytes; split it", local.MaxPayload)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	session, err := reachAgent(ctx, s)
	if err != nil {
		return err
	}
	defer session.Close()
	code, err := session.Publish(ctx, mqtt.Message{Topic: topic, Payload: payload})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it is not safe after %v and may still be sent; see how the buffer stands: jitr-agent buffer status", timeout)
	case errors.Is(err, mqtt.ErrLost):
		return errors.New("the agent ended the connection, and the message may still be sent; look what it says: journalctl -t jitr-agent")
	case err != nil:
		return err
	}
	switch {
	case code < 0x80:
		return nil
	case code == 0x90:
		return errors.New("the agent takes no such topic; publish to telemetry/ and one or more names without + and #, at most 8 segments and 256 bytes in the cloud; which it was: journalctl -t jitr-agent")
	case code == 0x83:
		return errNoName
	case code == 0x97:
		return errors.New("the buffer is full; find out why the gateway is offline: jitr-agent status")
	case code == 0x87:
		return errors.New("the server refused it (not authorized), and it is among the dead letters; ask the operator whether the policy allows iot:Publish there")
	}
	return fmt.Errorf("it was refused (%s); look what the agent says: journalctl -t jitr-agent", mqtt.CodeName(code))
}

// reachAgent connects to the running service as any program on the gateway
// does.
func reachAgent(ctx context.Context, s *settings.Settings) (*mqtt.Session, error) {
	network, address := "unix", s.Local.Socket
	switch {
	case address == "" && s.Local.Listen == "":
		return nil, errors.New("the agent takes no messages; set local.socket in agent.toml and restart it")
	case address == "":
		network, address = "tcp", s.Local.Listen
	case !filepath.IsAbs(address):
		address = filepath.Join(runtimeDir(), address)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("nobody listens at %s; start the service: systemctl start jitr-agent", address)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be used by this user; use sudo, or add the user to the group of the socket: usermod -a -G jitr-agent USER", address)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; look how the service is: systemctl status jitr-agent", address, err)
	}
	session, err := mqtt.Connect(ctx, conn, mqtt.Config{
		ClientID: fmt.Sprintf("jitr-agent-publish-%d", os.Getpid()), KeepAlive: time.Minute, Stall: 10 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w; look what the agent says: journalctl -t jitr-agent", address, err)
	}
	return session, nil
}
