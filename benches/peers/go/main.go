// rueidislock and redsync, each as its documentation shows, to be told what to do: see ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	goredislib "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
	"golang.org/x/sys/unix"
)

// taker is a lock as one task has it.
type taker interface {
	acquire() error
	release() error
}

// done is what one task did; times are in ns of the system's monotonic clock.
type done struct {
	sync.Mutex
	turns  [][4]int64 // When it asked, had it, began to give it back, and had done so.
	asked  int64      // Since when it waits; 0 if it does not.
	errors []string
	over   bool
}

func main() {
	if len(os.Args) != 3 || os.Args[1] != "redis" {
		fail(fmt.Errorf("say `redis URL,…`"))
	}
	var addresses []string
	for _, url := range strings.Split(os.Args[2], ",") {
		options, err := goredislib.ParseURL(url)
		fail(err)
		addresses = append(addresses, options.Addr)
	}
	open := kinds(addresses)
	fmt.Println("ready", versions())

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var kind, name string
		var tasks, names, permits, work, pause, begin, end, patience int64
		_, err := fmt.Sscan(lines.Text(), &kind, &name, &tasks, &names, &permits, &work, &pause, &begin, &end, &patience)
		fail(err)
		all, wait := make([]*done, tasks), sync.WaitGroup{}
		for task := range tasks {
			taker, err := open(kind, fmt.Sprintf("%s-%d", name, task%names))
			fail(err)
			all[task] = &done{}
			wait.Add(1)
			go func() {
				defer wait.Done()
				turns(taker, all[task], begin, end, time.Duration(work)*time.Microsecond, time.Duration(pause)*time.Microsecond)
			}()
		}
		ended := make(chan struct{})
		go func() { wait.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(time.Duration(end-now()) + time.Duration(patience)*time.Millisecond):
		}
		fmt.Println(reply(all))
	}
}

func turns(taker taker, done *done, begin, end int64, work, pause time.Duration) {
	time.Sleep(time.Duration(begin - now()))
	var asked int64 // An error is no end of waiting.
	for now() < end && !done.failed(nil) {
		if asked == 0 {
			asked = now()
		}
		done.waits(asked)
		if err := taker.acquire(); err != nil {
			done.failed(err)
			time.Sleep(time.Millisecond)
			continue
		}
		held := now()
		done.waits(0)
		if work > 0 {
			time.Sleep(work)
		}
		gives := now()
		err := taker.release()
		done.turn([4]int64{asked, held, gives, now()}, err)
		asked = 0
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	done.waits(0)
}

func (done *done) waits(asked int64) {
	done.Lock()
	defer done.Unlock()
	if !done.over {
		done.asked = asked
	}
}

func (done *done) turn(turn [4]int64, err error) {
	done.Lock()
	defer done.Unlock()
	done.turns = append(done.turns, turn)
	if err != nil {
		done.errors = append(done.errors, err.Error())
	}
}

// failed notes an error, if there is one; it says whether the round is over.
func (done *done) failed(err error) bool {
	done.Lock()
	defer done.Unlock()
	if err != nil {
		done.errors = append(done.errors, err.Error())
	}
	return done.over
}

func reply(all []*done) string {
	turns, stuck, errors := [][4]int64{}, []int64{}, []string{}
	for _, done := range all {
		done.Lock()
		done.over = true
		turns = append(turns, done.turns...)
		errors = append(errors, done.errors...)
		if done.asked != 0 {
			stuck = append(stuck, done.asked)
		}
		done.Unlock()
	}
	answer := map[string]any{"turns": turns, "stuck": stuck, "errors": len(errors)}
	if len(errors) > 0 {
		answer["error"] = errors[0]
	}
	line, err := json.Marshal(answer)
	fail(err)
	return string(line)
}

// kinds gives the function that makes a lock of a kind and a name. Clients are made when they are first wanted.
func kinds(addresses []string) func(kind, name string) (taker, error) {
	var locker rueidislock.Locker
	var sync *redsync.Redsync
	return func(kind, name string) (taker, error) {
		switch kind {
		case "rueidislock":
			if locker == nil {
				var err error
				// As its README says for one Redis of 7.0.5 or later.
				locker, err = rueidislock.NewLocker(rueidislock.LockerOption{
					ClientOption:   rueidis.ClientOption{InitAddress: addresses[:1]},
					KeyMajority:    1,
					NoLoopTracking: true,
				})
				if err != nil {
					return nil, err
				}
			}
			return &rueidisTaker{locker: locker, name: name}, nil
		case "redsync", "redsync-fail-fast":
			if sync == nil {
				var pools []redis.Pool
				for _, address := range addresses {
					pools = append(pools, goredis.NewPool(goredislib.NewClient(&goredislib.Options{Addr: address})))
				}
				sync = redsync.New(pools...)
			}
			// Its defaults: 8 s, 32 tries 50 to 250 ms apart by chance.
			return &redsyncTaker{sync.NewMutex(name, redsync.WithFailFast(kind == "redsync-fail-fast"))}, nil
		}
		return nil, fmt.Errorf("nothing is called %s", kind)
	}
}

type rueidisTaker struct {
	locker rueidislock.Locker
	name   string
	cancel context.CancelFunc
}

func (taker *rueidisTaker) acquire() (err error) {
	_, taker.cancel, err = taker.locker.WithContext(context.Background(), taker.name)
	return err
}

func (taker *rueidisTaker) release() error {
	taker.cancel()
	return nil
}

type redsyncTaker struct{ mutex *redsync.Mutex }

func (taker *redsyncTaker) acquire() error { return taker.mutex.Lock() }

func (taker *redsyncTaker) release() error {
	_, err := taker.mutex.Unlock()
	return err
}

func versions() string {
	var all []string
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		version := strings.TrimPrefix(dependency.Version, "v")
		switch dependency.Path {
		case "github.com/redis/rueidis":
			all = append(all, "rueidislock", version)
		case "github.com/go-redsync/redsync/v4":
			all = append(all, "redsync", version, "redsync-fail-fast", version)
		}
	}
	return strings.Join(all, " ")
}

func now() int64 {
	var time unix.Timespec
	fail(unix.ClockGettime(unix.CLOCK_MONOTONIC, &time))
	return time.Nano()
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
