package lambda

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A restart can come at any moment: the event is there in each of them.
func TestEventToBeRetriedStays(t *testing.T) {
	q := newAsyncQueue(nil)
	q.put(&asyncEvent{ID: "e"})
	end := make(chan struct{})
	var looking sync.WaitGroup
	defer looking.Wait()
	defer close(end)
	for range 8 { // so that always one stands at the lock
		looking.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if all := q.all(); len(all) != 1 || all[0].ID != "e" {
					t.Errorf("the queue holds %d events", len(all))
					return
				}
			}
		})
	}
	const tries = 20_000
	for n := range tries {
		e, wait := q.take(time.Now())
		if e == nil || e.Attempts != n {
			t.Fatalf("try %d: event %+v, wait %v", n, e, wait)
		}
		next := *e
		next.Attempts++
		q.again(&next)
	}
}

// Two uploads of one zip at once: the second finds the code there.
func TestCodeIsThereAlready(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "code")
	for _, name := range []string{"first", "second"} {
		temp := filepath.Join(root, name)
		if err := os.Mkdir(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(temp, "bootstrap"), []byte(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := install(temp, dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "bootstrap")); err != nil || string(got) != "first" {
		t.Errorf("the code is %q, %v", got, err)
	}
	if err := install(filepath.Join(root, "none"), filepath.Join(root, "other")); err == nil {
		t.Error("nothing was installed")
	}
}
