package audit

import (
	"os"
	"os/user"
	"strconv"
	"sync"
)

// A Process is who has caused an event.
type Process struct {
	User     string // name; "" if the system knows none
	UID      int    // effective user; -1 where there are none
	LoginUID int    // of the user who has logged in, whatever su(1) or sudo(8) has made of it; -1 if that is not known
	PID      int
	Program  string // path of the program; "" if that is not known
}

// ThisProcess returns the process that calls it.
var ThisProcess = sync.OnceValue(func() Process {
	p := Process{UID: os.Geteuid(), LoginUID: loginUID(os.Getpid()), PID: os.Getpid()}
	p.Program, _ = os.Executable()
	if p.User = userName(p.UID); p.User == "" {
		if u, err := user.Current(); err == nil { // Windows has no numbers
			p.User = u.Username
		}
	}
	return p
})

// ProcessOf returns another process on this machine, such as the peer of a socket. It asks the kernel
// for the program, which a process that has ended has none of; so it may be wrong if the system has
// given the number to another process since.
func ProcessOf(uid, pid int) Process {
	return Process{User: userName(uid), UID: uid, LoginUID: loginUID(pid), PID: pid, Program: programOf(pid)}
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}
