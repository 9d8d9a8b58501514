%% @doc The state of the pools in the text format of Prometheus, for a handler of whatever web server
%% there is.
-module(py_prometheus).

-export([format/0]).

%% @doc The page, whose type is `text/plain; version=0.0.4'.
-spec format() -> binary().
format() ->
    Pools = [{Name, Info} || {Name, Info = #{}} <- lists:sort(maps:to_list(py:info()))],
    unicode:characters_to_binary([metric(Metric, Pools) || Metric <- metrics()]).

metrics() ->
    [
        {workers, gauge, "Workers that are ready", fun(_, #{workers := Ws}) -> [{[], length(Ws)}] end},
        {workers_wanted, gauge, "Workers that there should be", fun(_, #{size := Size}) -> [{[], Size}] end},
        {draining, gauge, "1 while the pool takes nothing new", fun(_, #{draining := D}) -> [{[], truth(D)}] end},
        {streams_running, gauge, "Streams under way", fun(_, Info) -> [{[], sum(streams, Info)}] end},
        {calls_running, gauge, "Calls under way", fun(_, Info) -> [{[], sum(calls, Info)}] end},
        {workers_silent, gauge, "Workers that show no sign of life", fun(_, #{workers := Ws}) ->
            [{[], length([W || W = #{error := _} <- Ws])}]
        end}
    ] ++
        [
            {Name, counter, Help, fun(_, #{counters := Counters}) -> [{[], maps:get(Key, Counters)}] end}
         || {Name, Key, Help} <- [
                {requests_total, requests, "Requests: streams, calls and code"},
                {streams_total, streams, "Streams"},
                {values_total, values, "Values of streams"},
                {received_bytes_total, bytes, "Encoded bytes of values and results"},
                {timeouts_total, timeouts, "Requests that took too long"},
                {cancels_total, cancels, "Streams and calls that were cancelled"},
                {waits_total, waits, "Requests that waited for a worker, a thread or a slot"}
            ]
        ] ++
        [
            {errors_total, counter, "Requests that failed, by class", fun(_, #{counters := #{errors := Errors}}) ->
                [{[{class, Class}], N} || {Class, N} <- lists:sort(maps:to_list(Errors))]
            end},
            {restarts_total, counter, "Workers that ended, by reason", fun(_, #{counters := #{restarts := Restarts}}) ->
                [{[{reason, Reason}], N} || {Reason, N} <- lists:sort(maps:to_list(Restarts))]
            end},
            {worker_resident_memory_bytes, gauge, "Resident memory of a Python process", fun(_, Info) ->
                each(rss, Info)
            end},
            {worker_age_seconds, gauge, "How long a worker has been ready", fun(_, Info) ->
                [{Labels, Ms / 1000} || {Labels, Ms} <- each(age, Info)]
            end}
        ].

truth(true) -> 1;
truth(false) -> 0.

sum(Key, #{workers := Workers}) ->
    lists:sum([maps:get(Key, Worker) || Worker <- Workers]).

each(Key, #{workers := Workers}) ->
    [{[{os_pid, OsPid}], Value} || #{os_pid := OsPid, Key := Value} <- Workers, is_integer(Value)].

metric({Name, Type, Help, Read}, Pools) ->
    Full = ["erlang_python_", atom_to_list(Name)],
    Samples = [
        [Full, labels([{pool, Pool} | Labels]), $\s, number(Value), $\n]
     || {Pool, Info} <- Pools, {Labels, Value} <- Read(Pool, Info)
    ],
    [["# HELP ", Full, $\s, Help, "\n# TYPE ", Full, $\s, atom_to_list(Type), $\n] || Samples =/= []] ++ Samples.

labels(Labels) ->
    Pairs = [[atom_to_list(Name), "=\"", escaped(text(Value)), $"] || {Name, Value} <- Labels],
    [${, lists:join($,, Pairs), $}].

text(Value) when is_atom(Value) -> atom_to_list(Value);
text(Value) when is_binary(Value) -> Value;
text(Value) -> io_lib:format("~0tp", [Value]).

escaped(Text) ->
    [escape(Char) || Char <- unicode:characters_to_list(Text)].

escape($\\) -> "\\\\";
escape($") -> "\\\"";
escape($\n) -> "\\n";
escape(Char) -> Char.

number(Value) when is_integer(Value) -> integer_to_list(Value);
number(Value) -> io_lib:format("~.3f", [Value]).
