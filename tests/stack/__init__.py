"""The deployed stack, driven through its topics. A package, because its fixtures have to end with it: they poll in the
background, and other tests of the same process hand AWS clients to moto."""
