"""What runs inside the box: standard library only, imported by the zygote before it closes the doors."""
