"""What AdaF2M2 is compared with offline: warm-up of new ids, self-supervision on features; torch alone."""
