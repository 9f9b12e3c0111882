"""The demonstration: a whole rig on emulated instruments, seen by a plain MQTT subscriber.

``show`` is the order of things, ``play`` one run from start to end; ``subscriber`` what anybody could write;
``findings`` and ``truth`` the numbers; ``pictures`` and ``story`` what a person sees.
"""
