%% @doc Until when something may take, in milliseconds of monotonic time.
%% @hidden
-module(py_clock).

-export([now_ms/0, deadline/1, left/1]).
-export_type([deadline/0]).

-type deadline() :: integer() | infinity.
%% An atom is more than any number: nothing is later than `infinity'.

-spec now_ms() -> integer().
now_ms() ->
    erlang:monotonic_time(millisecond).

-spec deadline(timeout()) -> deadline().
deadline(infinity) -> infinity;
deadline(Timeout) -> now_ms() + Timeout.

%% @doc How long it is until then; 0 if that is over.
-spec left(deadline()) -> timeout().
left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - now_ms()).
