package sharing

import "golang.org/x/sys/unix"

// LockMemory keeps the memory of this process out of swap space, as long as it runs. The error is that of the system: the limit of locked memory (RLIMIT_MEMLOCK) counts for users
// without CAP_IPC_LOCK, and memory that grows beyond it would be refused to this process, so a limit
// counts as an error.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY && unix.Geteuid() != 0 {
		return unix.ENOMEM
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
