package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jitr-agent/jitr-agent/internal/ca"
)

// passphraseEnv holds the passphrase where no file does. A file is better:
// others can read a process's environment more often than its files.
const passphraseEnv = "JITRCTL_PASSPHRASE"

// passphraseFlag adds --passphrase-file, and gives what asks for a passphrase
// in the order file, environment, terminal.
func passphraseFlag(cmd *cobra.Command) ca.Passphrase {
	file := passphraseFileFlag(cmd)
	return func(key string) ([]byte, error) {
		if p, err := givenPassphrase(*file); p != nil || err != nil {
			return p, err
		}
		return promptPassphrase("Passphrase of " + key + ": ")
	}
}

func passphraseFileFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("passphrase-file", "", "`FILE` whose first line is the passphrase of the CA's key; else "+passphraseEnv+", else the terminal is asked")
}

// givenPassphrase is the one from file or environment, nil where neither is
// set.
func givenPassphrase(file string) ([]byte, error) {
	if file == "" {
		if p, ok := os.LookupEnv(passphraseEnv); ok {
			return []byte(p), nil
		}
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("the first line of %s, which is to be the passphrase, is empty", file)
	}
	return line, nil
}

// newPassphrase is the passphrase for a key that is to be made.
func newPassphrase(file string) ([]byte, error) {
	p, err := givenPassphrase(file)
	if err != nil {
		return nil, err
	}
	if p == nil {
		if p, err = promptPassphrase("Passphrase for the new key: "); err != nil {
			return nil, err
		}
		again, err := promptPassphrase("The same again: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(p, again) {
			return nil, errors.New("the two passphrases differ; try again")
		}
	}
	if len(p) == 0 {
		return nil, errors.New("an empty passphrase protects nothing; give one, or make the CA without --encrypt")
	}
	return p, nil
}

// promptPassphrase asks at the terminal, which stdin need not be: a request
// may come from there.
func promptPassphrase(prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w, and there is no terminal to ask at; give it with --passphrase-file FILE or in %s", ca.ErrNoPassphrase, passphraseEnv)
	}
	defer tty.Close()
	restore, err := restoreOnSignal(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	defer restore()
	fmt.Fprint(tty, prompt)
	p, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	return p, nil
}

// restoreOnSignal gives the terminal its echo back where the user ends the
// program at the prompt. What it returns ends that watch.
func restoreOnSignal(fd int) (func(), error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	signals, done, ended := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(ended)
		select {
		case <-done:
		case s := <-signals:
			_ = term.Restore(fd, before) // we are going anyway
			signal.Stop(signals)
			if s, ok := s.(syscall.Signal); ok {
				_ = syscall.Kill(os.Getpid(), s)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}, nil
}
