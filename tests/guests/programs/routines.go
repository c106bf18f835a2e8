// SPDX-License-Identifier: Apache-2.0

// Goroutines, channels, the garbage collector, maps, closures, panics, and preemption by signals: one line per part.
package main

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

type node struct {
	left, right *node
	value       int
}

func tree(depth, value int) *node {
	if depth == 0 {
		return &node{value: value}
	}
	return &node{tree(depth-1, value*2), tree(depth-1, value*2+1), value}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

// A pipeline of goroutines that each take every multiple of a prime out.
func primes(count int) int {
	numbers := make(chan int)
	stop := make(chan bool)
	go func() {
		for i := 2; ; i++ {
			select {
			case numbers <- i:
			case <-stop:
				return
			}
		}
	}()
	sum := 0
	var source <-chan int = numbers
	for i := 0; i < count; i++ {
		prime := <-source
		sum += prime
		next := make(chan int)
		go func(in <-chan int, out chan<- int, prime int) {
			for {
				select {
				case value := <-in:
					if value%prime == 0 {
						continue
					}
					select {
					case out <- value:
					case <-stop:
						return
					}
				case <-stop:
					return
				}
			}
		}(source, next, prime)
		source = next
	}
	close(stop)
	return sum
}

func recovered(i int) (result string) {
	defer func() {
		result = fmt.Sprint(recover())
	}()
	var none *node
	var table []int
	switch i % 4 {
	case 0:
		return fmt.Sprint(none.value) // SIGSEGV
	case 1:
		return fmt.Sprint(i / (i - i)) // a check, or SIGFPE
	case 2:
		return fmt.Sprint(table[i])
	}
	panic(i)
}

func main() {
	fmt.Println("primes", primes(150))

	debug.SetGCPercent(20)
	kept := tree(14, 1)
	sum := 0
	var wait sync.WaitGroup
	var total int64
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			for j := 0; j < 6; j++ {
				atomic.AddInt64(&total, int64(tree(11, i+j).sum()))
			}
		}(i)
	}
	wait.Wait()
	sum = kept.sum()
	var statistics runtime.MemStats
	runtime.ReadMemStats(&statistics)
	fmt.Println("gc", sum, total, statistics.NumGC > 2)

	// These loops call nothing, on one processor: only a signal takes it from the first so that the next can start.
	runtime.GOMAXPROCS(1)
	var started, flag int32
	for i := 0; i < 3; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			atomic.AddInt32(&started, 1)
			for atomic.LoadInt32(&flag) == 0 {
			}
		}()
	}
	for atomic.LoadInt32(&started) < 3 {
	}
	atomic.StoreInt32(&flag, 1)
	wait.Wait()
	runtime.GOMAXPROCS(runtime.NumCPU())
	fmt.Println("preemption", started)

	words := map[string]int{}
	for i := 0; i < 30000; i++ {
		words[fmt.Sprintf("k%d", i*7919%4999)] += i
	}
	keys := make([]string, 0, len(words))
	for key := range words {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	check := crc32.NewIEEE()
	for _, key := range keys {
		fmt.Fprintf(check, "%s=%d;", key, words[key])
	}
	fmt.Printf("map %d %08x\n", len(keys), check.Sum32())

	for i := 4; i < 8; i++ {
		fmt.Println("panic", recovered(i))
	}
	for i := 0; i < 300; i++ {
		recovered(i)
	}

	product := big.NewInt(1)
	for i := int64(1); i < 600; i++ {
		product.Mul(product, big.NewInt(i))
	}
	fmt.Printf("big %x\n", sha256.Sum256([]byte(product.String())))
	fmt.Printf("sha %x\n", sha256.Sum256([]byte(strings.Repeat("bulkhead", 100000))))

	var lock sync.RWMutex
	counter := 0
	for i := 0; i < 50; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := 0; j < 400; j++ {
				if j%10 == 0 {
					lock.Lock()
					counter++
					lock.Unlock()
				} else {
					lock.RLock()
					_ = counter
					lock.RUnlock()
				}
			}
		}()
	}
	wait.Wait()
	fmt.Println("locks", counter)
}
